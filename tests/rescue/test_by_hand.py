"""A pack is read with tar, coreutils and openssl alone, by the very steps of its page."""

import shutil
from pathlib import Path

import pytest

import pages
from harmoni.sealing import pack
from vectors import make_vectors

PAGE = "../reference/pack-format.md"
VECTORS = Path(make_vectors.__file__).parent


def lay_out(directory, name):
    shutil.copy(VECTORS / f"packs/{name}.tar", directory / "PACK.tar")
    shutil.copy(VECTORS / "blocks/minted.json", directory / "BLOCK.json")
    (directory / "epoch.key").write_bytes(make_vectors.EPOCH.key)


def test_the_steps_of_the_page_lead_from_a_pack_to_an_instance(tmp_path):
    lay_out(tmp_path, "three")
    output = pages.follow(PAGE, tmp_path)

    assert output.count(" is whole\n") == 4
    assert output.endswith("instance 0 is what was received\n")
    assert (tmp_path / "0.dcm").read_bytes() == make_vectors.seeded("three 0", 200)
    assert "harmoni-pack 1\n" in output


def test_the_steps_find_every_event_of_a_pack_whole(tmp_path):
    lay_out(tmp_path, "events")
    output = "".join(pages.execute(block, tmp_path) for block in pages.blocks(PAGE)[:4])

    assert output.count(" is whole\n") == 20


@pytest.mark.parametrize(
    ("name", "step"),
    [("footer", 1), ("footer-sum", 1), ("padding", 2), ("header", 0), ("member", 2)],
)
def test_the_steps_stop_at_what_is_damaged(tmp_path, name, step):
    lay_out(tmp_path, name)
    blocks = pages.blocks(PAGE)
    for block in blocks[:step]:
        pages.execute(block, tmp_path)
    with pytest.raises(AssertionError):
        pages.execute(blocks[step], tmp_path)


def test_the_steps_name_the_member_that_is_damaged(tmp_path):
    lay_out(tmp_path, "member")
    blocks = pages.blocks(PAGE)
    for block in blocks[:2]:
        pages.execute(block, tmp_path)
    with pytest.raises(AssertionError):
        pages.execute(blocks[3], tmp_path)


def test_the_page_has_the_text_of_a_readme_to_the_byte():
    readme = pack.Readme(
        pack_id=make_vectors.ulid("three"),
        hospital=make_vectors.HOSPITAL,
        site=make_vectors.SITE,
        kind=pack.PackKind.INSTANCES,
        key_id=f"{make_vectors.BLOCK.block_id}.17",
    ).encode()
    page = (pages.PAGES / PAGE).read_text(encoding="utf-8")
    text = readme.decode().partition("\n\n")[2]

    assert f"```\n{text}```\n" in page
