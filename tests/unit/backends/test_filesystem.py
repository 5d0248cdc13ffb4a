import errno
import fcntl
import os
from pathlib import Path

import pytest

from harmoni.backends.filesystem import Filesystem, make_root
from harmoni.model.errors import (
    AlreadyHeld,
    ConfigurationError,
    Damaged,
    NotHeld,
    OutOfResources,
    StorageFailed,
)


@pytest.fixture
def store(tmp_path):
    return Filesystem(tmp_path)


def test_buffers_land_one_after_another_at_their_offset(store):
    with store.create("a") as file:
        assert file.write([b"xx", b"", bytearray(b"yy"), memoryview(b"zz")], 3) == 6

    assert store.read("a") == b"\0\0\0xxyyzz"


def test_more_buffers_than_one_call_takes_are_all_written(store):
    with store.create("a") as file:
        file.write([b"%04d" % number for number in range(3000)], 0)

    assert store.read("a") == b"".join(b"%04d" % number for number in range(3000))


def test_a_short_write_is_continued(store, monkeypatch):
    whole = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: whole(fd, [views[0][:3]], at))
    with store.create("a") as file:
        file.write([b"abcdefgh", b"ij"], 0)

    assert store.read("a") == b"abcdefghij"


def test_create_never_touches_what_exists(store):
    store.create("a").write([b"old"], 0)
    with pytest.raises(AlreadyHeld):
        store.create("a")

    assert store.read("a") == b"old"


def test_publish_never_overwrites_and_leaves_nothing_beside(store):
    store.make_directory("d/e")
    store.publish("d/e/a", b"first")
    with pytest.raises(AlreadyHeld):
        store.publish("d/e/a", b"second")

    assert store.read("d/e/a") == b"first"
    assert store.names("d/e") == ["a"]


def test_publish_flushes_the_file_before_its_name_and_the_folder_after(store, monkeypatch):
    acts = []
    for name in ("fdatasync", "link", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, real=real, name=name: (acts.append(name), real(*args))[1]
        )
    store.publish("a", b"data")

    assert acts == ["fdatasync", "link", "fsync"]


@pytest.mark.parametrize("act", ["publish", "replace"])
def test_what_a_killed_process_left_is_not_in_the_way_of_its_successor(store, monkeypatch, act):
    """In a container started anew, a process has the number of the one that was killed."""
    with monkeypatch.context() as killed:
        for step in ("link", "rename", "unlink"):
            killed.setattr(os, step, lambda *_: os.close(-1))
        with pytest.raises(StorageFailed):
            getattr(store, act)("a", b"torn")
    assert store.names("") != []

    getattr(store, act)("a", b"whole")

    assert store.read("a") == b"whole"


def test_replace_puts_new_content_in_place(store):
    store.publish("a", b"first")
    store.replace("a", b"second")

    assert store.read("a") == b"second"
    assert store.names("") == ["a"]


def test_a_lock_is_free_again_when_its_file_is_closed(store):
    first = store.create("a")
    second = store.open("a")
    assert first.lock()
    assert not second.lock()

    first.close()

    assert second.lock()


def test_reading_beyond_the_end_is_damage(store):
    with store.create("a") as file:
        file.write([b"abc"], 0)
        with pytest.raises(Damaged):
            file.read(1, 3)


def test_copy_takes_the_whole_source(store):
    with store.create("a") as source, store.create("b") as target:
        source.write([b"0123456789" * 1000], 0)
        target.copy_from(source, size_bytes=10_000, offset=5)

    assert store.read("b") == b"\0" * 5 + b"0123456789" * 1000


def test_copy_from_a_source_that_ends_early_is_a_failure(store):
    with store.create("a") as source, store.create("b") as target, pytest.raises(StorageFailed):
        target.copy_from(source, size_bytes=1, offset=0)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, OutOfResources),
        (errno.EDQUOT, OutOfResources),
        (errno.EIO, StorageFailed),
        (errno.EROFS, StorageFailed),
    ],
)
def test_a_failing_system_call_becomes_an_error_of_ours(store, monkeypatch, number, expected):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    with store.create("a") as file:
        monkeypatch.setattr(os, "pwritev", fail)
        monkeypatch.setattr(os, "fdatasync", fail)
        monkeypatch.setattr(os, "listdir", fail)
        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(expected):
            file.write([b"x"], 0)
        with pytest.raises(expected):
            file.sync()
        with pytest.raises(expected):
            file.lock()
        with pytest.raises(expected):
            store.names("")


def test_a_failed_publish_leaves_nothing(store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OutOfResources):
        store.publish("a", b"data")

    assert store.names("") == []


def test_what_is_not_there_is_not_held(store):
    with pytest.raises(NotHeld):
        store.open("nothing")
    assert store.names("nothing") == []
    assert not store.exists("nothing")


def test_a_sealed_file_is_read_only(store):
    with store.create("a") as file:
        file.make_read_only()

    assert (store.path("a").stat().st_mode & 0o777) == 0o400


def test_free_space_is_told(store):
    assert store.free_bytes() > 0
    store.publish("a", b"12345")
    assert store.size_bytes("a") == 5


def test_a_directory_that_cannot_be_made_is_a_matter_of_configuration(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file/below", tmp_path / "file", Path("/proc/none")):
        with pytest.raises(ConfigurationError, match=f"cannot make the directory {place}: "):
            make_root(place)


def test_a_root_is_made_with_its_parents_for_its_owner_alone(tmp_path):
    make_root(tmp_path / "a/b").publish("x", b"1")
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    assert make_root(tmp_path / "a/b").read("x") == b"1"


def test_what_a_user_may_not_do_is_told_with_what_to_do():
    with pytest.raises(StorageFailed, match="let the user of this process write there"):
        Filesystem(Path("/sys")).create("harmoni")


def test_whether_a_root_can_be_written_is_known(tmp_path):
    assert Filesystem(tmp_path).is_writable()
    assert not Filesystem(tmp_path / "none").is_writable()
