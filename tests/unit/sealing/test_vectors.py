"""Every frozen vector is judged as its index says, and the writers still write the same bytes."""

import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from harmoni.backends.filesystem import Filesystem
from harmoni.dicom import part10
from harmoni.evidence.seal_log import SealLog
from harmoni.model.errors import ConfigurationError, Damaged, NotHeld, UnknownFormat
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.sealing import age, keys, pack, provenance, streaming, tail, tar
from harmoni.sealing.age import Identity
from harmoni.sealing.event import Event
from harmoni.sealing.keys import EpochKey, KeyBlock, KeyId
from harmoni.sealing.manifest import Manifest
from harmoni.sealing.pack import Kind, PackKind, Readme
from vectors import make_vectors

FOLDER = Path(make_vectors.__file__).parent
INDEX = json.loads((FOLDER / "index.json").read_text())
OUTCOMES = {"damaged": Damaged, "unknown": UnknownFormat, "not held": NotHeld}


def judge_member(data, facts):
    plaintext = streaming.decrypt(
        data,
        data_key=bytes.fromhex(facts["data_key"]),
        associated_data=facts["associated_data"].encode(),
    )
    assert len(plaintext) == facts["plaintext_size"]
    assert hashlib.sha256(plaintext).hexdigest() == facts["plaintext_sha256"]


def judge_age(data, facts):
    epoch = EpochKey.open(data, Identity.from_string(facts["identity"]))
    assert epoch.key.hex() == facts["key"]


def judge_block(data, facts):
    block = KeyBlock.decode(data)
    epoch = EpochKey(
        hospital=block.hospital,
        site=block.site,
        month=block.month,
        key=bytes.fromhex(facts["epoch_key"]),
    )
    assert block.open_row(facts["row"], epoch).hex() == facts["key"]


class Reader:
    """Opens a whole pack from identity to datasets, as the reference describes it."""

    def __init__(self, data, facts):
        self.data = data
        self.block = KeyBlock.decode((FOLDER / facts["block"]).read_bytes())
        sealed_epoch = (FOLDER / facts["epoch"]).read_bytes()
        self.epoch = EpochKey.open(sealed_epoch, Identity.from_string(facts["identity"]))
        self.where = "tail"

    def read(self):
        data = self.data
        footer = tail.parse_footer(data[-tail.END_BYTES :])
        parsed = tail.parse_tail(data[footer.tail_offset :], footer)
        public = parsed.public
        self.where = "README"
        first = tar.parse_member_header(data)
        readme = Readme.decode(data[first.header_bytes : first.header_bytes + first.size_bytes])
        assert (readme.pack_id, readme.key_id) == (public.pack_id, public.key_id)
        opened = self.open(public, public.members[-1], parsed.manifest_ciphertext)
        manifest = Manifest.decode(opened)
        held = {
            i.location.sequence: (i.identity.sha256, i.identity.size_bytes)
            for i in manifest.instances
        }
        held |= {event.sequence: (event.sha256, None) for event in manifest.events}
        offset = first.next_offset
        for member in public.members[:-1]:
            self.where = member.name
            header = tar.parse_member_header(data[offset : offset + tar.PAX_HEADER_BYTES])
            assert (header.name, header.size_bytes) == (member.name, member.size_bytes)
            assert member.offset == offset + header.header_bytes
            plaintext = self.open(public, member, data[member.offset :][: member.size_bytes])
            sha256, size = held.pop(member.sequence)
            data_set = plaintext if size is None else plaintext[len(plaintext) - size :]
            assert hashlib.sha256(data_set).digest() == sha256
            if public.kind is PackKind.EVENTS:
                Event.decode(plaintext)
            offset += header.next_offset
        assert held == {}
        self.where = "prefix"
        if hashlib.sha256(data[: -tail.FOOTER_FROM_END]).digest() != footer.sha256:
            raise Damaged("the footer's hash is another")
        return manifest

    def open(self, public, member, ciphertext):
        name = pack.parse_name(member.name)
        key_id = KeyId.parse(name.key_id or public.key_id)
        assert key_id.block == self.block.block_id
        if name.kind is not Kind.MANIFEST and (
            hashlib.sha256(ciphertext).digest() != member.sha256
        ):
            raise Damaged("the hash of a ciphertext is another")
        return streaming.decrypt(
            ciphertext,
            data_key=self.block.open_row(key_id.row, self.epoch),
            associated_data=pack.associated_data(
                kind=name.kind,
                hospital=public.hospital,
                pack_id=public.pack_id,
                sequence=name.sequence,
            ),
        )


def judge_pack(data, facts):
    reader = Reader(data, facts)
    try:
        manifest = reader.read()
    except Damaged:
        assert reader.where == facts["where"]
        raise
    assert len(manifest.instances) + len(manifest.events) == facts["members"]


def judge_wrap(data, facts):
    try:
        identity = keys.unwrap_identity(bytes.fromhex(facts["custody_key"]), data)
    except ConfigurationError as error:
        raise NotHeld("no identity") from error
    epoch = EpochKey.open((FOLDER / facts["epoch"]).read_bytes(), identity)
    assert epoch.key.hex() == facts["key"]


def judge_log(data, facts):
    """The record stands in a folder after those that it follows."""
    chain, by_file = [data], {each["file"]: each for each in INDEX}
    while "after" in facts:
        chain.append((FOLDER / facts["after"]).read_bytes())
        facts = by_file[facts["after"]]
    wanted = next(each for each in INDEX if (FOLDER / each["file"]).read_bytes() == data)
    with tempfile.TemporaryDirectory() as root:
        log = SealLog(Filesystem(root), HospitalId(facts["hospital"]), SiteId(facts["site"]))
        for record in chain:
            number = json.loads(record)["sequence"]
            path = Path(root, f"log/{facts['hospital']}/{facts['site']}/{number:012d}.json")
            path.write_bytes(record)
        found = dict(log.records()).get(len(chain) - 1)
    assert (found.sha256.hex() if found else "") == wanted["pack_sha256"]


JUDGES = {
    "wrap": judge_wrap,
    "log": judge_log,
    "member": judge_member,
    "age": judge_age,
    "block": judge_block,
    "pack": judge_pack,
}


@pytest.mark.parametrize("facts", INDEX, ids=lambda facts: facts["file"])
def test_a_vector_is_judged_as_the_index_says(facts):
    data = (FOLDER / facts["file"]).read_bytes()
    judge = JUDGES[facts["kind"]]
    if facts["outcome"] == "opens":
        judge(data, facts)
    else:
        with pytest.raises(OUTCOMES[facts["outcome"]]):
            judge(data, facts)


def test_every_file_has_an_entry():
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*") if path.is_file()}
    files = {name for name in files if not name.startswith("__pycache__/")}
    assert files == {facts["file"] for facts in INDEX}


def test_the_writers_still_write_the_same_bytes(tmp_path):
    (tmp_path / "ages").mkdir()
    for name in make_vectors.KEPT:
        shutil.copy(FOLDER / f"ages/{name}.age", tmp_path / f"ages/{name}.age")
    make_vectors.main(tmp_path)
    for name in ["index.json", *(facts["file"] for facts in INDEX)]:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def hashes():
    """SHA-256 of each vector, and of what the index says of it."""
    for facts in INDEX:
        yield hashlib.sha256((FOLDER / facts["file"]).read_bytes()).hexdigest(), facts["file"]
        words = json.dumps(facts, sort_keys=True).encode()
        yield hashlib.sha256(words).hexdigest(), f"index.json {facts['file']}"


def test_no_frozen_vector_has_changed_or_gone():
    """A new vector gets two lines in frozen.txt, one that is there never changes."""
    frozen = Path(__file__).with_name("frozen.txt").read_text().splitlines()
    found = [f"{digest}  {name}" for digest, name in hashes()]
    assert [line for line in frozen if line not in found] == []
    assert [line for line in found if line not in frozen] == [], "add these lines to frozen.txt"


def opened(name):
    """Every member of a vector's pack by its name, opened."""
    [facts] = [each for each in INDEX if each["file"] == name]
    reader = Reader((FOLDER / name).read_bytes(), facts)
    footer = tail.parse_footer(reader.data)
    public = tail.parse_tail(reader.data[footer.tail_offset :], footer).public
    return {
        member.name: reader.open(public, member, reader.data[member.offset :][: member.size_bytes])
        for member in public.members
    }


def test_files_are_given_back_with_their_own_prefix():
    prefixes = []
    for name, data in opened("packs/gateway.tar").items():
        if name.startswith("i/"):
            meta = part10.read_prefix(data)
            prefixes.append(provenance.decode(meta.private_information).original_prefix)
    assert prefixes == [None, bytes(128) + b"DICM the file's own meta", b""]


def test_every_kind_of_the_page_has_a_vector_with_the_fields_of_the_page():
    page = (FOLDER.parents[1] / "docs/reference/pack-format.md").read_text()
    table = page.split("## 11. Events")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]* \| (.*) \|$", table, re.MULTILINE)
    events = [Event.decode(x) for n, x in opened("packs/events.tar").items() if n[0] == "e"]
    told = {kind: set() for kind, _ in rows}
    for event in events:
        if event.kind != make_vectors.UNKNOWN_KIND:
            told[event.kind] |= event.body.keys()
    for kind, words in rows:
        assert told[kind], kind
        assert told[kind] <= set(re.findall(r"`([a-z_0-9]+)`", words)), kind


def test_an_unknown_kind_of_event_is_kept_as_it_is():
    [event] = [
        Event.decode(data)
        for name, data in opened("packs/events.tar").items()
        if name[0] == "e" and Event.decode(data).kind == make_vectors.UNKNOWN_KIND
    ]
    assert event.body == {"anything": {"deep": [1, None, True, "\u0391"]}}


def test_the_next_generation_of_a_block_keeps_the_fields_of_a_later_program():
    block = KeyBlock.decode((FOLDER / "blocks/field.json").read_bytes())
    assert json.loads(block.without(frozenset({1})).encode())["later"] == 1


def test_the_age_file_is_not_addressed_to_everybody():
    stranger = age.generate_identity(random=bytes(32))
    with pytest.raises(NotHeld):
        age.decrypt((FOLDER / "ages/epoch.age").read_bytes(), stranger)
