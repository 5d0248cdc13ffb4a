"""Every parser that reads bytes of a peer or of a disk, with arbitrary and with mutated bytes.

A parser here is a function; the first sentence of its docstring is the invariant. It may raise the
errors that are named beside it and none other, and what it asserts holds for whatever it takes.
"""

import hashlib
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire
from harmoni.audit import spool
from harmoni.audit.event import Act, AuditEvent
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom import commitment_data, dimse, identifier, items, part10, pdu, scanner, uids
from harmoni.dicom.dataset import decode_data_set
from harmoni.evidence.seal_log import SealLog, SealRecord
from harmoni.model.errors import Damaged, InvalidInput, NotHeld, RemoteProtocolError
from harmoni.model.header import Element
from harmoni.model.identifiers import WriterId
from harmoni.sealing import age, keys, provenance, streaming, tail, tar
from harmoni.sealing.event import TOMBSTONE, Event
from harmoni.sealing.manifest import Manifest
from harmoni.sealing.pack import Kind, PublicTable, Readme
from harmoni.sealing.tombstone import ErasedPack, Tombstone
from mutations import mutations_of
from unit.sealing import samples

EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
PACK, MANIFEST, SEALED = samples.sealed_pack()
TAIL = PACK[SEALED.footer.tail_offset :]
IDENTITY = age.generate_identity(random=samples.randomness("identity", 32))
EPOCH = keys.EpochKey(hospital=samples.HOSPITAL, site=samples.SITE, month="2026-11", key=bytes(32))
EPOCH_FILE = EPOCH.seal(
    [IDENTITY.recipient()], random=samples.randomness("epoch", age.RANDOM_BYTES)
)
BLOCK = keys.KeyBlock.mint(
    block_id=samples.PACK_ID.value,
    epoch=EPOCH,
    random=samples.randomness("block", keys.BLOCK_RANDOM_BYTES),
)
AUDITED = [AuditEvent(act=Act.QUERY, at_ms=number, patient_ids=("P",)) for number in range(3)]
RECORD = SealRecord(
    kind=SEALED.public.kind,
    pack_id=samples.PACK_ID,
    size_bytes=len(PACK),
    sha256=SEALED.sha256,
    root=bytes(32),
    sealed_at_ms=samples.RECEIVED_AT_MS,
)
MEMBER = streaming.encrypt(
    [b"a data set"],
    data_key=samples.DATA_KEY,
    associated_data=samples.bound(Kind.INSTANCE, 1),
    salt=bytes(streaming.SALT_BYTES),
    nonce_prefix=bytes(streaming.NONCE_PREFIX_BYTES),
)
MOST_BYTES = 1 << 20


class Asking:
    """A door without a house, for a request."""

    called, calling = "HARMONI", "PYNET"


def spool_file():
    """A spool of a few events."""
    with tempfile.TemporaryDirectory() as folder:
        store = Filesystem(Path(folder))
        with spool.Spool.create(
            store, writer=WriterId("dc1-n1-w0"), started_ms=1, key=bytes(32), salt=bytes(32)
        ) as opened:
            for event in AUDITED:
                opened.append(event)
        return opened.name, store.read(opened.name)


SPOOL_NAME, SPOOL = spool_file()


def log_file():
    """The first record of a seal log."""
    with tempfile.TemporaryDirectory() as folder:
        SealLog(Filesystem(Path(folder)), samples.HOSPITAL, samples.SITE).append(RECORD)
        [path] = Path(folder).rglob("*.json")
        return str(path.relative_to(folder)), path.read_bytes()


LOG_NAME, LOG = log_file()
QUERY = next(data for context, _, data in wire.messages() if context == wire.FIND_ID)
COMMITMENT = next(data for context, _, data in wire.messages() if context == wire.COMMIT_ID)
DATA_SET = wire.data_set("2.25.3", filler=64)


# What a peer sends.


def a_pdu(data):
    """A PDU of the type that was said, whichever it is."""
    for kind in pdu.PduType:
        with suppress(RemoteProtocolError):
            told = pdu.decode(kind, data)
            assert type(told).__name__.upper() == kind.name.replace("_", "")


def user_information(data):
    """User information whose numbers fit their fields."""
    told = items.decode_user_information(memoryview(data))
    assert 0 <= told.max_length < 1 << 32
    assert len(told.implementation_class_uid) <= 64


def a_command(data):
    """A command set that says what its kind must say."""
    command = dimse.decode_command(data)
    assert (command.status is not None) or not command.field.is_response


def a_header(data):
    """A header, never an error, and the same however the data set was cut."""
    for uid in (EXPLICIT, IMPLICIT, DEFLATED, uids.EXPLICIT_VR_BIG_ENDIAN):
        syntax = uids.storage_transfer_syntax(uid)
        whole, cut = scanner.Scanner(syntax), scanner.Scanner(syntax)
        whole.feed(data)
        for start in range(0, len(data), 7):
            cut.feed(data[start : start + 7])
        assert whole.header() == cut.header()


def a_data_set(data):
    """Elements that are found under their own tags, no longer than what came."""
    for uid in (EXPLICIT, IMPLICIT):
        with suppress(InvalidInput):
            told = decode_data_set(data, uid, MOST_BYTES)
            assert all(tag == element.tag for tag, element in told.items())
            values = [each.value for each in told.values() if isinstance(each, Element)]
            assert sum(map(len, values)) <= len(data)


def a_query(data):
    """A query with a level, in either model."""
    for root in ("PATIENT", "STUDY"):
        with suppress(InvalidInput):
            assert identifier.parse_query(data, IMPLICIT, root).level in identifier.QueryLevel


def a_commitment(data):
    """A transaction with references, or a report on one."""
    with suppress(InvalidInput):
        transaction, references = commitment_data.parse_commitment_request(data, IMPLICIT)
        assert transaction
        assert references
    with suppress(InvalidInput):
        commitment_data.parse_commitment_report(data, IMPLICIT)


def a_part_10_prefix(data):
    """A prefix of the very bytes, so that nothing of a data set is ever lost to it."""
    found = part10.read_prefix(data)
    assert found.prefix == data[: found.dataset_offset]


# What a disk gives.


def a_tar_header(data):
    """The header of a member that ends within what it says, or the end of the archive."""
    header = tar.parse_member_header(data)
    if header is None:
        assert not any(data[: tar.BLOCK_BYTES])
    else:
        assert header.next_offset >= header.header_bytes + header.size_bytes


def a_pack_tail(data):
    """The tail that was sealed, or none: no changed byte of it passes."""
    footer = tail.parse_footer(data[-tail.END_BYTES :])
    begun = len(data) - (footer.pack_size - footer.tail_offset)
    if begun < 0:
        raise Damaged("shorter than it says")
    body = PACK[: -len(TAIL)] + data[: -tail.FOOTER_FROM_END]
    if hashlib.sha256(body).digest() != footer.sha256:
        raise Damaged("another hash")
    assert tail.parse_tail(data[begun:], footer).public == SEALED.public


def a_manifest(data):
    """A manifest that is read back from what it is written as."""
    told = Manifest.decode(data)
    assert Manifest.decode(told.encode()) == told


def a_public_table(data):
    """A public table that is read back from what it is written as."""
    told = PublicTable.decode(data)
    assert PublicTable.decode(told.encode()) == told


def a_readme(data):
    """A first member that is read back from what it is written as."""
    told = Readme.decode(data)
    assert Readme.decode(told.encode()) == told


def an_encrypted_member(data):
    """The plaintext that was encrypted, or none: no changed byte of it passes."""
    opened = streaming.decrypt(
        data,
        data_key=samples.DATA_KEY,
        associated_data=samples.bound(Kind.INSTANCE, 1),
    )
    assert opened == b"a data set"


def a_key_block(data):
    """A block of 256 rows that is read back from what it is written as."""
    told = keys.KeyBlock.decode(data)
    assert keys.KeyBlock.decode(told.encode()) == told


def an_epoch_key(data):
    """The epoch key that was sealed, or none: no changed byte of the age file passes."""
    assert keys.EpochKey.open(data, IDENTITY) == EPOCH


def what_an_age_file_holds(data):
    """An epoch key, or an error, whatever somebody sealed to us."""
    sealed = age.encrypt(
        data, [IDENTITY.recipient()], random=samples.randomness("again", age.RANDOM_BYTES)
    )
    assert len(keys.EpochKey.open(sealed, IDENTITY).key) == 32


def an_event(data):
    """An event that is read back from what it is written as, and if it says so a tombstone."""
    told = Event.decode(data)
    assert Event.decode(told.encode()) == told
    if told.kind == TOMBSTONE:
        assert Tombstone.of_body(told.body).body()


def a_provenance(data):
    """A provenance that is read back from what it is written as."""
    told = provenance.decode(data)
    assert provenance.decode(provenance.encode(told)) == told


def an_audit_event(data):
    """An audit event that is read back from what it is written as."""
    told = AuditEvent.decode(data)
    assert AuditEvent.decode(told.encode()) == told


def an_audit_spool(data):
    """Events that were written, and a finding wherever the bytes are not those that were."""
    with tempfile.TemporaryDirectory() as folder:
        store = Filesystem(Path(folder))
        path = store.path(SPOOL_NAME)
        path.parent.mkdir()
        path.write_bytes(data)
        findings = spool.verify(store, SPOOL_NAME, bytes(32))
        with suppress(Damaged):
            assert all(entry.event in AUDITED for entry in spool.read(store, SPOOL_NAME, bytes(32)))
    whole = (findings.records, findings.torn_bytes, findings.problems) == (len(AUDITED), 0, ())
    assert whole == (data == SPOOL)


def a_log_record(data):
    """A record of the log that is told, or an error that names it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LOG_NAME)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        log = SealLog(Filesystem(Path(folder)), samples.HOSPITAL, samples.SITE)
        assert all(isinstance(record, SealRecord) for _, record in log.records())


@dataclass(frozen=True)
class Parser:
    """What to call, good bytes for it, and what it may raise."""

    read: object
    good: tuple[bytes, ...]
    errors: tuple[type[Exception], ...]


PEER, DISK = (RemoteProtocolError, InvalidInput), (Damaged,)
TOLD = Tombstone(
    study_hash=bytes(32),
    salt=bytes(32),
    complete_at_ms=1,
    packs=(ErasedPack(pack_id=samples.PACK_ID, key_id=samples.KEY_ID, sealed=None),),
    events=(),
)
EVENT = Event(kind=TOMBSTONE, at_ms=0, subject="", body=TOLD.body(), salt=bytes(32))
PROVENANCE = provenance.Provenance(
    origin=samples.instance(1).origin, received_at_ms=1, salt=bytes(32), original_prefix=b"DICM"
)
REQUEST = pdu.encode(wire.request(Asking))
PREFIX = part10.file_meta(
    sop_class_uid=str(wire.CT),
    sop_instance_uid="2.25.3",
    transfer_syntax_uid=EXPLICIT,
    private_information=provenance.encode(PROVENANCE),
)
PARSERS = [
    Parser(a_pdu, (REQUEST[6:], wire.values(wire.CT_ID, wire.ECHO, DATA_SET)[6:]), PEER),
    Parser(
        user_information,
        (items.encode_user_information(wire.request(Asking).user_information),),
        PEER,
    ),
    Parser(a_command, tuple(dimse.encode_command(each) for _, each, _ in wire.messages()), PEER),
    Parser(a_header, (DATA_SET, QUERY, zlib.compress(DATA_SET, wbits=-zlib.MAX_WBITS)), ()),
    Parser(a_data_set, (DATA_SET, QUERY, COMMITMENT), PEER),
    Parser(a_query, (QUERY,), PEER),
    Parser(a_commitment, (COMMITMENT,), PEER),
    Parser(a_part_10_prefix, (PREFIX + DATA_SET,), PEER),
    Parser(
        a_tar_header,
        (tar.member_header("i/1", 9, 0), tar.member_header("i/1", 9, 0, always_pax=True)),
        DISK,
    ),
    Parser(a_pack_tail, (TAIL,), DISK),
    Parser(a_manifest, (MANIFEST.encode(),), DISK),
    Parser(a_public_table, (SEALED.public.encode(),), DISK),
    Parser(
        a_readme,
        (
            Readme(
                pack_id=samples.PACK_ID,
                hospital=samples.HOSPITAL,
                site=samples.SITE,
                kind=SEALED.public.kind,
                key_id=samples.KEY_ID,
            ).encode(),
        ),
        DISK,
    ),
    Parser(an_encrypted_member, (MEMBER,), DISK),
    Parser(a_key_block, (BLOCK.encode(),), DISK),
    Parser(an_epoch_key, (EPOCH_FILE,), (Damaged, NotHeld)),
    Parser(what_an_age_file_holds, (age.decrypt(EPOCH_FILE, IDENTITY),), DISK),
    Parser(an_event, (EVENT.encode(),), DISK),
    Parser(a_provenance, (provenance.encode(PROVENANCE),), DISK),
    Parser(an_audit_event, tuple(each.encode() for each in AUDITED), DISK),
    Parser(an_audit_spool, (SPOOL,), DISK),
    Parser(a_log_record, (LOG,), DISK),
]
every = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.read.__name__)


@every
def test_good_bytes_are_read(parser):
    """Without it the other two could pass by refusing everything."""
    for good in parser.good:
        parser.read(good)


@every
@given(data=st.binary(max_size=600))
def test_arbitrary_bytes_are_read_or_refused_by_name(parser, data):
    with suppress(*parser.errors):
        parser.read(data)


@every
@given(data=st.data())
def test_mutated_bytes_are_read_or_refused_by_name(parser, data):
    mutation = data.draw(mutations_of(*parser.good))
    with suppress(*parser.errors):
        parser.read(mutation)
