"""Every frozen vector is judged as its index says, and the writers still write the same bytes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from harmoni.model.errors import Damaged, NotHeld
from harmoni.sealing import age, pack, streaming, tail, tar
from harmoni.sealing.age import Identity
from harmoni.sealing.event import Event
from harmoni.sealing.keys import EpochKey, KeyBlock, KeyId
from harmoni.sealing.manifest import Manifest
from harmoni.sealing.pack import Kind, PackKind, Readme
from vectors import make_vectors

FOLDER = Path(make_vectors.__file__).parent
INDEX = json.loads((FOLDER / "index.json").read_text())
OUTCOMES = {"damaged": Damaged, "not held": NotHeld}


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
        held = {i.location.sequence: i.identity.sha256 for i in manifest.instances}
        held |= {event.sequence: event.sha256 for event in manifest.events}
        offset = first.next_offset
        for member in public.members[:-1]:
            self.where = member.name
            header = tar.parse_member_header(data[offset : offset + tar.PAX_HEADER_BYTES])
            assert (header.name, header.size_bytes) == (member.name, member.size_bytes)
            assert member.offset == offset + header.header_bytes
            plaintext = self.open(public, member, data[member.offset :][: member.size_bytes])
            assert hashlib.sha256(plaintext).digest() == held.pop(member.sequence)
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


JUDGES = {"member": judge_member, "age": judge_age, "block": judge_block, "pack": judge_pack}


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
    shutil.copy(FOLDER / "ages/epoch.age", tmp_path / "ages/epoch.age")
    make_vectors.main(tmp_path)
    for name in ["index.json", *(facts["file"] for facts in INDEX)]:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_the_age_file_is_not_addressed_to_everybody():
    stranger = age.generate_identity(random=bytes(32))
    with pytest.raises(NotHeld):
        age.decrypt((FOLDER / "ages/epoch.age").read_bytes(), stranger)
