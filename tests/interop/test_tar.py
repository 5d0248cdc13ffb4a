"""GNU tar reads packs, and members with pax records, without our programs."""

import shutil
import subprocess

import pytest

from harmoni.sealing import tar
from unit.sealing import samples

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="no tar on this machine")


def run(*arguments, cwd):
    return subprocess.run(
        ["tar", *arguments], check=True, capture_output=True, text=True, cwd=cwd, timeout=60
    )


def test_gnu_tar_lists_and_extracts_a_pack(tmp_path):
    data, _, sealed = samples.sealed_pack()
    (tmp_path / "pack.tar").write_bytes(data)
    listed = run("tvf", "pack.tar", "--utc", "--full-time", "--numeric-owner", cwd=tmp_path)
    assert listed.stderr == ""
    lines = listed.stdout.splitlines()
    assert len(lines) == len(sealed.public.members) + 3
    assert all(line.startswith("-r-------- 0/0 ") for line in lines)
    assert lines[1].endswith("2026-11-24 04:00:01 i/00000000")
    extracted = run("xf", "pack.tar", cwd=tmp_path)
    assert extracted.stderr == ""
    for member in sealed.public.members:
        body = data[member.offset : member.offset + member.size_bytes]
        assert (tmp_path / member.name).read_bytes() == body


def test_gnu_tar_reads_a_member_with_a_pax_record(tmp_path):
    body = b"the length of this was not known"
    header = tar.member_header("i/00000000", len(body), 5, always_pax=True)
    following = tar.plain_member("README", b"next", 5)
    data = header + body + bytes(tar.padding(len(body))) + following + bytes(1024)
    (tmp_path / "pack.tar").write_bytes(data)
    extracted = run("xf", "pack.tar", cwd=tmp_path)
    assert extracted.stderr == ""
    assert (tmp_path / "i/00000000").read_bytes() == body
    assert (tmp_path / "README").read_bytes() == b"next"


def test_gnu_tar_reads_a_member_of_more_than_8_gib(tmp_path):
    """A sparse file stands for the member, so no disk space is taken."""
    size = (8 << 30) + 513
    header = tar.member_header("i/00000000", size, 5)
    following = tar.plain_member("README", b"next", 5)
    with (tmp_path / "pack.tar").open("wb") as file:
        file.write(header)
        file.seek(len(header) + size + tar.padding(size))
        file.write(following + bytes(1024))
    listed = run("tvf", "pack.tar", "--numeric-owner", cwd=tmp_path).stdout.split()
    assert str(size) in listed
    assert "README" in listed
