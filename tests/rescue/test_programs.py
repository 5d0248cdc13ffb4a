"""rescue.py and rescue.mjs open what an archive wrote, to the byte, and say what is damaged."""

import ast
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import house as houses
import rescuer
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings import spill
from harmoni.holdings.holding import Holding
from harmoni.sealing import age, tar
from harmoni.testing import FakeClock
from harmoni.vault import reader
from vectors import make_vectors

MIB = 1 << 20
TOOLS = ["rescue.py", "rescue.mjs"]
EVENTS = [("hold", {"study": "1.2"}), ("hold", {"study": "1.3"}), ("overlay", {"x": "ä"})]


@dataclass
class Remains:
    """What somebody finds: packs, keys, and one secret or the other."""

    root: Path
    recovery: age.Identity
    custody_key: bytes
    sent: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        return self.root / "keys/hospital-a"

    def packs(self, name: str) -> list[Path]:
        return sorted((self.root / name).rglob("*.tar"))

    def options(self, who: str = "recovery") -> list[object]:
        if who == "site":
            wrapped = self.root / "custody/hospital-a.dc1.identity"
            secret = ["--custody-key", self.root / "custody.key", "--wrapped-identity", wrapped]
        else:
            secret = ["--identity", self.root / "recovery.txt"]
        return [*secret, "--keys", self.keys, "--out", self.root / "out"]

    def copy(self, root: Path) -> "Remains":
        shutil.copytree(self.root, root)
        return Remains(root, self.recovery, self.custody_key, self.sent)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Sealed packs with small, spilled and giant instances and events, and an open pack."""
    root = tmp_path_factory.mktemp("original")
    identity = age.generate_identity(random=os.urandom(32))
    site = houses.make_site(root, FakeClock(), os.urandom(32), "dc1-n1-w0")
    house = houses.House(site, Holding.create(site, houses.HOSPITAL, identity.recipient()))
    remains = Remains(root, identity, site.custody_key)

    def store(where, number, size):
        data = houses.data_set(number, pixels=os.urandom(size))
        house.store(data, number)
        remains.sent.setdefault(where, []).append(data)

    for number, size in enumerate((0, 2, 1000, 65_480, 65_520, 300_000, 5 * MIB), 1):
        store("sealed", number, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "GIANT_BYTES", 8 * MIB)
        store("sealed", 8, 9 * MIB)
    for kind, body in EVENTS:
        house.holding.events.record(kind, body, subject=body.get("study", ""))
    house.holding.events.retire()
    house.seal()
    for number in (9, 10, 11):
        store("open", number, 1000)
    (root / "packs/hospital-a/p").rename(root / "sealed")
    (root / "packs/hospital-a/open").rename(root / "open")
    (root / "recovery.txt").write_text(f"# keep it\n{identity.to_string()}\n")
    (root / "custody.key").write_bytes(site.custody_key)
    assert len(remains.packs("sealed")) == 3
    assert len(remains.packs("open")) == 1
    return remains


@pytest.fixture
def remains(original, tmp_path):
    return original.copy(tmp_path / "remains")


@pytest.fixture(params=TOOLS)
def run(request, tmp_path):
    return rescuer.runner(request.param, tmp_path)


def holding(path):
    """Names and places of the members of a pack."""
    files = Filesystem(path.parent)
    with files.open(path.name) as file:
        return {member.name: member for member in reader.walk(file)}


def flip(path, offset):
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def instances_pack(remains):
    """The sealed pack of several instances."""
    [path] = [path for path in remains.packs("sealed") if "i/00000001" in holding(path)]
    return path


@pytest.mark.parametrize("who", ["recovery", "site"])
def test_every_instance_comes_back_to_the_byte(run, remains, who):
    answer = run(*remains.options(who), remains.root / "sealed", *remains.packs("open"))

    assert (answer.code, answer.errors) == (0, "")
    sent = remains.sent["sealed"] + remains.sent["open"]
    assert rescuer.datasets(remains.root / "out") == sorted(sent)
    assert answer.lines[-1] == f"4 packs: {len(sent) + len(EVENTS)} members written, 0 troubles"
    assert len([line for line in answer.lines if " ok: " in line]) == len(sent) + len(EVENTS)


def test_events_come_back_as_json(run, remains):
    assert run(*remains.options(), remains.root / "sealed").code == 0
    events = [json.loads(path.read_bytes()) for path in (remains.root / "out").glob("*.json")]

    told = sorted((event["kind"], json.dumps(event["body"])) for event in events)
    assert told == sorted((kind, json.dumps(body)) for kind, body in EVENTS)


def test_files_bear_the_name_of_pack_and_number_and_are_for_their_owner_only(run, remains):
    assert run(*remains.options(), remains.root / "sealed").code == 0
    packs = {path.stem for path in remains.packs("sealed")}

    assert (remains.root / "out").stat().st_mode & 0o777 == 0o700
    for path in (remains.root / "out").iterdir():
        assert path.name[:26] in packs
        assert re.fullmatch(r"-[0-9]{8}\.(dcm|json)", path.name[26:])
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_flipped_byte_costs_one_member(run, remains):
    path = instances_pack(remains)
    victim = max(holding(path).values(), key=lambda member: member.size_bytes)
    flip(path, victim.offset + victim.size_bytes - 1)
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    damaged = [line for line in answer.lines if "DAMAGED" in line]
    assert f"{path.name} {victim.name} DAMAGED: segment 80 fails authentication" in damaged
    assert damaged[1:] == [
        f"{path.name} DAMAGED: the SHA-256 of the file is not that of its footer"
    ]
    found = rescuer.datasets(remains.root / "out")
    assert found == sorted(d for d in remains.sent["sealed"] if not 5 * MIB < len(d) < 6 * MIB)
    assert list((remains.root / "out").glob("*.part")) == []


def test_whole_members_of_two_damaged_copies_come_together(run, remains):
    path = instances_pack(remains)
    copy = remains.root / "copy" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    for place, name in ((path, "i/00000000"), (copy, "i/00000001")):
        flip(place, holding(place)[name].offset + 50)
    answer = run(*remains.options(), remains.root / "sealed", copy)

    assert answer.code == 1
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["sealed"])


def test_a_damaged_header_costs_no_member_of_a_sealed_pack(run, remains):
    path = instances_pack(remains)
    flip(path, holding(path)["i/00000002"].offset - 500)
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    assert any("there is no member in bytes" in line for line in answer.lines)
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["sealed"])


def test_a_damaged_readme_costs_no_member_of_a_sealed_pack(run, remains):
    path = instances_pack(remains)
    flip(path, 512 + 70)
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    assert any(" README DAMAGED" in line for line in answer.lines)
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["sealed"])


def test_a_damaged_manifest_costs_no_member(run, remains):
    path = instances_pack(remains)
    flip(path, holding(path)["manifest"].offset + 60)
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    assert any(" manifest DAMAGED" in line for line in answer.lines)
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["sealed"])


def test_a_pack_that_lost_its_end_gives_what_is_left(run, remains):
    path = instances_pack(remains)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-700])
    answer = run(*remains.options(), path)

    assert answer.code == 1
    assert f"{path.name} DAMAGED: its end is missing or damaged" in answer.lines
    assert len(list((remains.root / "out").iterdir())) == 7


def test_an_open_pack_is_read_to_its_torn_end(run, remains):
    [path] = remains.packs("open")
    torn = tar.member_header("i/00000003", 5000, 1_795_492_800) + os.urandom(3000)
    path.write_bytes(path.read_bytes() + torn)
    answer = run(*remains.options(), path)

    assert answer.code == 0
    assert f"{path.name} is not sealed: {len(torn)} bytes after its last member" in answer.lines
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["open"])


def test_a_damaged_header_in_an_open_pack_costs_its_member_alone(run, remains):
    [path] = remains.packs("open")
    flip(path, holding(path)["i/00000001"].offset - 500)
    answer = run(*remains.options(), path)

    assert answer.code == 1
    assert any("there is no member in bytes" in line for line in answer.lines)
    first, _, third = remains.sent["open"]
    assert rescuer.datasets(remains.root / "out") == sorted([first, third])


def block_of(remains):
    [path] = [p for p in (remains.keys / "dc1-n1-w0").iterdir() if p.is_file()]
    return path


def erase(remains, row):
    path = block_of(remains)
    block = json.loads(path.read_bytes())
    del block["rows"][row]
    block["generation"] += 1
    path.chmod(0o600)
    path.write_text(json.dumps(block))


def test_an_erased_key_is_told_and_takes_nothing_else_with_it(run, remains):
    path = instances_pack(remains)
    key_id = re.search(rb"\nkey: (\S+)\n", path.read_bytes())[1].decode()
    erase(remains, key_id.split(".")[1])
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    told = [line for line in answer.lines if line.endswith(f"NO KEY: key {key_id} was erased")]
    assert len(told) == 1 + 7  # the manifest and each member
    assert len(rescuer.datasets(remains.root / "out")) == 1
    assert len(list((remains.root / "out").glob("*.json"))) == len(EVENTS)


def test_the_erased_key_of_one_event_costs_that_event(run, remains):
    [path] = [p for p in remains.packs("sealed") if any(n[:2] == "e/" for n in holding(p))]
    names = [name for name in holding(path) if name.startswith("e/")]
    key_id = names[1].partition(".")[2]
    erase(remains, key_id.split(".")[1])
    answer = run(*remains.options(), path)

    assert answer.code == 1
    assert f"{path.name} {names[1]} NO KEY: key {key_id} was erased" in answer.lines
    assert len(list((remains.root / "out").glob("*.json"))) == len(EVENTS) - 1


def test_of_two_generations_of_a_block_the_higher_one_counts(run, remains):
    old = block_of(remains)
    elsewhere = remains.keys / "another-copy" / old.name
    elsewhere.parent.mkdir()
    shutil.copy(old, elsewhere)
    erase(remains, "0")
    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 1
    assert any(".0 was erased" in line for line in answer.lines)


def test_a_damaged_copy_of_a_key_is_passed_over(run, remains):
    shutil.copytree(remains.keys, remains.keys / "another-copy")
    block = block_of(remains)
    block.chmod(0o600)
    block.write_bytes(block.read_bytes()[:-9])
    [epoch] = (remains.keys / "epochs").iterdir()
    flip(epoch, epoch.stat().st_size - 1)

    assert run(*remains.options(), remains.root / "sealed").code == 0


def refused(run, remains, *options):
    answer = run(*options, "--keys", remains.keys, "--out", remains.root / "out", "pack.tar")
    assert (answer.code, answer.lines) == (2, [])
    assert not (remains.root / "out").exists()
    return answer.errors


def test_the_identity_of_somebody_else_is_told_before_anything_is_tried(run, remains):
    stranger = age.generate_identity(random=os.urandom(32)).to_string()
    (remains.root / "stranger.txt").write_text(stranger)

    errors = refused(run, remains, "--identity", remains.root / "stranger.txt")
    assert "this identity opens none of the 1 files epochs/*.age" in errors


def test_a_slip_in_the_identity_is_told_and_the_identity_is_not(run, remains):
    text = remains.recovery.to_string()
    slip = text[:30] + ("Q" if text[30] != "Q" else "P") + text[31:]
    (remains.root / "slip.txt").write_text(slip)

    errors = refused(run, remains, "--identity", remains.root / "slip.txt")
    assert "its checksum differs" in errors
    assert slip[20:] not in errors


def test_another_custody_key_is_told(run, remains):
    (remains.root / "other.key").write_bytes(os.urandom(32))
    wrapped = remains.root / "custody/hospital-a.dc1.identity"

    errors = refused(
        run, remains, "--custody-key", remains.root / "other.key", "--wrapped-identity", wrapped
    )
    assert "does not open with this custody key" in errors


def test_without_a_secret_the_command_says_what_to_give(run, remains):
    assert "--identity" in refused(run, remains)


def test_help_tells_how_to_use_it(run):
    answer = run("--help")

    assert answer.code == 0
    for word in ("--identity FILE --keys keys/HOSPITAL --out DIR", "--check vectors"):
        assert word in "\n".join(answer.lines)


def test_every_vector_is_judged_as_its_index_says(run):
    folder = Path(make_vectors.__file__).parent
    answer = run("--check", folder)
    count = len(json.loads((folder / "index.json").read_bytes()))

    assert answer.code == 0
    assert answer.lines[-1] == f"{count} examples: 0 judged wrong"
    assert len(answer.lines) == count + 1


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("members/small.bin", {"outcome": "damaged"}),
        ("members/tag.bin", {"outcome": "opens"}),
        ("packs/three.tar", {"members": 4}),
        ("ages/epoch.age", {"key": "00"}),
        ("blocks/erased.json", {"outcome": "damaged"}),
    ],
)
def test_a_wrong_judgement_of_a_vector_would_be_seen(run, tmp_path, file, change):
    shutil.copytree(Path(make_vectors.__file__).parent, tmp_path / "vectors")
    index = tmp_path / "vectors/index.json"
    entries = json.loads(index.read_bytes())
    index.write_text(json.dumps([e | change if e["file"] == file else e for e in entries]))
    answer = run("--check", "vectors")

    assert answer.code == 1
    assert [line.split()[0] for line in answer.lines if "WRONG" in line] == [file]


def test_any_identity_opens_what_is_for_it_and_nothing_else(run, tmp_path):
    (tmp_path / "ages").mkdir()
    entries = []
    identities = [age.generate_identity(random=os.urandom(32)) for _ in range(40)]
    for number, (one, other) in enumerate(itertools.pairwise(identities)):
        sealed = make_vectors.EPOCH.seal([one.recipient()], random=os.urandom(32))
        (tmp_path / f"ages/{number}").write_bytes(sealed)
        facts = {"file": f"ages/{number}", "kind": "age", "key": make_vectors.EPOCH.key.hex()}
        entries.append(facts | {"identity": one.to_string(), "outcome": "opens"})
        entries.append(facts | {"identity": other.to_string(), "outcome": "not held"})
    (tmp_path / "index.json").write_text(json.dumps(entries))

    assert run("--check", tmp_path).lines[-1] == "78 examples: 0 judged wrong"


def test_both_programs_say_and_write_the_same(remains, tmp_path):
    flip(instances_pack(remains), 70_000)
    [path] = remains.packs("open")
    path.write_bytes(path.read_bytes()[:-100])
    said, wrote = [], []
    for tool in TOOLS:
        run = rescuer.runner(tool, tmp_path)
        said.append(run(*remains.options(), remains.root / "sealed", path).lines)
        out = remains.root / "out"
        wrote.append({each.name: each.read_bytes() for each in out.iterdir()})
        shutil.rmtree(out)

    assert said[0] == said[1]
    assert wrote[0] == wrote[1]


def test_whatever_is_altered_both_programs_end_well_and_say_the_same(remains, tmp_path):
    """Arbitrary damage: flips, cuts, and pieces that are lost or stand twice."""
    chance = random.Random(random.randrange(1 << 32))  # by the seed of the run
    for number in range(60):
        source = chance.choice(remains.packs("open") + remains.packs("sealed")[::2])
        data = bytearray(source.read_bytes())
        # Where headers and the tail are; ciphertext is most of a pack, and each bit of it alike.
        place = chance.choice([chance.randrange(5000), -chance.randrange(1, 9000)])
        match chance.choice(["flip", "cut", "lose", "double"]):
            case "flip":
                data[place] ^= 1 << chance.randrange(8)
            case "cut":
                del data[place:]
            case "lose":
                del data[place : place + chance.choice([1, 512, 1000])]
            case "double":
                data[place:place] = data[place : place + chance.choice([1, 512, 1000])]
        (remains.root / f"altered/{number}.tar").parent.mkdir(exist_ok=True)
        (remains.root / f"altered/{number}.tar").write_bytes(data)
    answers = [
        rescuer.runner(tool, tmp_path)(*remains.options(), remains.root / "altered")
        for tool in TOOLS
    ]

    assert [answer.errors for answer in answers] == ["", ""]
    assert answers[0] == answers[1]
    sent = remains.sent["sealed"] + remains.sent["open"]
    assert set(rescuer.datasets(remains.root / "out")) <= set(sent)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_large_member_takes_no_more_memory_than_a_small_one(tool, tmp_path):
    root = tmp_path / "large"
    root.mkdir()
    identity = age.generate_identity(random=os.urandom(32))
    site = houses.make_site(root, FakeClock(), os.urandom(32), "dc1-n1-w0")
    house = houses.House(site, Holding.create(site, houses.HOSPITAL, identity.recipient()))
    (root / "recovery.txt").write_text(identity.to_string())
    remains = Remains(root, identity, site.custody_key)
    peaks = []
    for number, size in ((1, 1000), (2, 128 * MIB)):
        house.store(houses.data_set(number, pixels=bytes(size)), number)
        [done] = house.seal()
        [path] = house.files(f"packs/hospital-a/p/*/{done.pack_id}.tar")
        peaks.append(rescuer.peak_kib(tool, *remains.options(), path))

    assert peaks[1] - peaks[0] < 48 << 10


def test_without_cryptography_rescue_py_says_what_to_do(tmp_path):
    hidden = "import sys; sys.modules['cryptography'] = None; "
    [python, isolated, flag, script, path] = rescuer.command("rescue.py")
    done = subprocess.run(
        [python, isolated, flag, hidden + script, path], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "take rescue.mjs" in done.stderr


def test_a_pack_that_is_not_there_does_not_keep_the_others(run, remains):
    answer = run(*remains.options(), "lost.tar", remains.root / "sealed")

    assert answer.code == 1
    assert answer.lines[0] == "lost.tar DAMAGED: it cannot be read or written to its end"
    assert rescuer.datasets(remains.root / "out") == sorted(remains.sent["sealed"])


def test_a_block_under_the_name_of_another_is_not_taken_for_it(run, remains):
    path = block_of(remains)
    other = {"block": "01KB000000000000000000000A"}
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | other))
    answer = run(*remains.options(), *remains.packs("open"))

    assert answer.code == 1
    assert all("a key block is damaged" in line for line in answer.lines[:3])


def test_rescue_py_imports_nothing_but_the_library_and_cryptography():
    tree = ast.parse((rescuer.SOURCE / "rescue.py").read_bytes())
    names = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names

    assert foreign == {"cryptography"}


def test_rescue_mjs_imports_nothing_but_modules_of_node():
    text = (rescuer.SOURCE / "rescue.mjs").read_text(encoding="utf-8")
    modules = re.findall(r'from "([^"]*)"', text)

    assert modules
    assert all(module.startswith("node:") for module in modules)
    assert not re.search(r"\bimport\(|createRequire", text)


def test_a_copy_of_a_key_that_its_disk_does_not_give_is_passed_over(remains, run):
    epoch = next(remains.keys.glob("epochs/*.age"))
    for name in [path.name for path in remains.keys.glob("dc1-n1-w0/*")] + [epoch.name]:
        place = remains.keys / "a/epochs" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to("/proc/self/mem")

    answer = run(*remains.options(), remains.root / "sealed")

    assert answer.code == 0, answer.lines
