"""A file system that loses what was not flushed, served to the kernel by FUSE; needs root.

It speaks the kernel's own protocol (linux/fuse.h, 7.31) on /dev/fuse and needs no library. Lines on
its standard input steer it (tests/volatile_disk.py). One thread: no request is ever half done.
"""

import ctypes
import errno
import os
import random
import select
import signal
import stat
import struct
import sys
from contextlib import suppress

from volatile_tree import Tree

MAX_WRITE = 1 << 18
_HEAD = struct.Struct("=IIQQIIIHH")
_ANSWER = struct.Struct("=IiQ")
_ATTRIBUTES = struct.Struct("=6Q10I")
_INIT = struct.Struct("=4IHHIIHHI28x")
_SETATTR = struct.Struct("=IIQQ")
_WRITE = _READ = struct.Struct("=QQI")
_DIRENT = struct.Struct("=QQII")
_WRITE_IN_BYTES = 40
_FROM_CACHE, _KEEP_CACHE = 1, 2
_SET_MODE, _SET_SIZE = 1, 8
_OFFERED = 1 << 5 | 1 << 22  # writes of more than a page, of up to so many pages
_VALID_S = 3600  # only this kernel changes anything
_NOSUID, _NODEV, _DETACH = 2, 4, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
OPERATIONS = {
    1: "lookup", 3: "getattr", 4: "setattr", 9: "mkdir", 10: "unlink", 11: "rmdir", 12: "rename",
    13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs", 18: "release", 20: "fsync",
    26: "init", 27: "opendir", 28: "readdir", 29: "releasedir", 30: "fsyncdir", 35: "create",
}  # fmt: skip
_UNANSWERED = {2, 36, 42}  # forget, interrupt, batch forget
_CHANGES = {"create", "link", "mkdir", "rename", "setattr", "unlink", "write"}
_FLUSHES = {"fsync", "fsyncdir"}
_LOOKS = {"lookup", "open", "opendir", "read", "readdir"}
# Which calls a fault may meet, and what it says.
FAULTS = {
    "EIO": (_CHANGES | _FLUSHES | _LOOKS, errno.EIO),
    "ENOSPC": (_CHANGES | _FLUSHES, errno.ENOSPC),
    "half": ({"write"}, errno.ENOSPC),
    "flush": (_FLUSHES, errno.EIO),
}
# Where in a call the first name begins.
_NAMED = {"lookup": 0, "unlink": 0, "rmdir": 0, "mkdir": 8, "create": 16, "rename": 8, "link": 8}


class Server:
    """One mount point, the tree that is seen there, and the fault or the cut that is due."""

    def __init__(self, mount_point):
        self._mount_point = os.fsencode(mount_point)
        self._buffer = bytearray(MAX_WRITE + 4096)
        self._tree = Tree()
        self._listings = {}
        self._device = -1
        self._silent = False
        self._calls = 0
        self._fails_at = self._silent_at = 0
        self._fault, self._failed = "EIO", "-"
        self._below = b""

    def serve(self):
        """Mount, and serve until standard input ends."""
        self._mount()
        _say("mounted")
        while True:
            devices = [] if self._silent or self._device < 0 else [self._device]
            ready, _, _ = select.select([0, *devices], [], [])
            if 0 in ready:
                line = sys.stdin.buffer.raw.readline().decode()
                if not line:
                    break
                _say(self._obey(*line.split()))
            else:
                self._answer()
                if self._silent:
                    _say("silent")
        if self._device >= 0:
            self._unmount()

    def _mount(self):
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40700,user_id=0,group_id=0,default_permissions"
        flags = _NOSUID | _NODEV
        if _LIBC.mount(b"volatile", self._mount_point, b"fuse", flags, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")
        self._silent = False

    def _unmount(self):
        """Whoever waits for an answer gets an error, and the kernel forgets what it has cached."""
        os.close(self._device)
        _LIBC.umount2(self._mount_point, _DETACH)
        self._device = -1

    def _obey(self, command, *words):
        """One line from the test; the answer is a line, too."""
        match command:
            case "fail":
                self._calls, self._failed, self._fault = 0, "-", words[1]
                self._fails_at = int(words[0])
                self._below = os.fsencode(words[2].strip("."))
            case "silent":
                self._silent_at = self._calls + int(words[0]) + 1
            case "count":
                return f"{self._calls} {self._failed}"
            case "abort":
                self._unmount()
            case "cut":
                if self._device >= 0:
                    self._unmount()
                self._tree.cut(random.Random(words[0]), float(words[1]))
                self._mount()
        return "done"

    def _answer(self):
        """Take one request from the kernel and answer it, unless power is off by then."""
        size = os.readv(self._device, [self._buffer])
        _, code, unique, number, *_ = _HEAD.unpack_from(self._buffer)
        if code in _UNANSWERED:
            return
        body = memoryview(self._buffer)[_HEAD.size : size]
        name = OPERATIONS.get(code, "")
        error, data = 0, b""
        try:
            data = self._perform(name, number, body)
        except KeyError:  # of a folder's entries
            error = errno.ENOENT
        except OSError as failed:
            error = failed.errno
        if self._silent:
            return
        head = _ANSWER.pack(_ANSWER.size + len(data), -error, unique)
        with suppress(FileNotFoundError):  # whoever asked was killed
            os.writev(self._device, [head, data])

    def _perform(self, name, number, body):
        if not name:
            raise OSError(errno.ENOSYS, "not offered")
        if name in FAULTS[self._fault][0] and self._concerns(name, number, body):
            self._calls += 1
            if self._calls == self._silent_at:
                self._silent = True
                return b""
            if self._calls == self._fails_at:
                body = self._meet_fault(name, number, body)
        return getattr(self, f"_{name}")(self._tree.nodes[number] if number else None, body)

    def _concerns(self, name, number, body):
        """Whether a call is one of those that are counted."""
        if name == "write" and struct.unpack_from("=I", body, 20)[0] & _FROM_CACHE:
            return False  # the kernel writes what was changed in memory when it likes
        return self._path(name, number, body).startswith(self._below)

    def _path(self, name, number, body):
        """What a call is about."""
        path = self._tree.nodes[number].path
        if name in _NAMED:
            path += b"/" + _names(body[_NAMED[name] :])[0]
        return path

    def _meet_fault(self, name, number, body):
        """Fail; or let half of a write happen, after which the disk is full."""
        self._failed = f"{name}:{os.fsdecode(self._path(name, number, body))}"
        if name == "fsync":
            self._tree.nodes[number].lose_pending()
        if self._fault == "half" and len(body) > _WRITE_IN_BYTES + 1:
            self._fails_at += 1
            return body[: (_WRITE_IN_BYTES + len(body)) // 2]
        raise OSError(FAULTS[self._fault][1], "injected")

    def _init(self, _, body):
        major, _, readahead, _ = struct.unpack_from("=4I", body)
        pages = MAX_WRITE >> 12
        return _INIT.pack(major, 31, readahead, _OFFERED, 12, 9, MAX_WRITE, 1, pages, 0, 0)

    def _lookup(self, folder, body):
        return _entry(folder.entries[_names(body)[0]])

    def _getattr(self, node, _):
        return struct.pack("=QII", _VALID_S, 0, 0) + _attributes(node)

    def _setattr(self, node, body):
        valid, _, _, size = _SETATTR.unpack_from(body)
        if valid & _SET_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(struct.unpack_from("=I", body, 68)[0])
        if valid & _SET_SIZE:
            node.resize(size)
        node.touch()
        return self._getattr(node, body)

    def _mkdir(self, folder, body):
        (mode,) = struct.unpack_from("=I", body)
        return _entry(self._tree.make(folder, _names(body[8:])[0], stat.S_IFDIR | mode))

    def _create(self, folder, body):
        _, mode = struct.unpack_from("=II", body)
        node = self._tree.make(folder, _names(body[16:])[0], stat.S_IFREG | stat.S_IMODE(mode))
        return _entry(node) + self._open(node, body)

    def _unlink(self, folder, body):
        self._tree.forget(folder, _names(body)[0])
        return b""

    def _rmdir(self, folder, body):
        (name,) = _names(body)
        if folder.entries[name].entries:
            raise OSError(errno.ENOTEMPTY, "not empty")
        return self._unlink(folder, body)

    def _rename(self, folder, body):
        (target,) = struct.unpack_from("=Q", body)
        old, new = _names(body[8:])
        node = folder.entries[old]
        self._tree.name(self._tree.nodes[target], new, node)
        self._tree.forget(folder, old)
        return b""

    def _link(self, folder, body):
        (number,) = struct.unpack_from("=Q", body)
        node = self._tree.nodes[number]
        self._tree.name(folder, _names(body[8:])[0], node)
        return _entry(node)

    def _open(self, node, _):
        return struct.pack("=QII", node.number, _KEEP_CACHE, 0)

    def _read(self, node, body):
        _, offset, size = _READ.unpack_from(body)
        return node.data[offset : offset + size]

    def _write(self, node, body):
        _, offset, _ = _WRITE.unpack_from(body)
        data = body[_WRITE_IN_BYTES:]
        node.write(offset, data)
        return struct.pack("=II", len(data), 0)

    def _statfs(self, *_):
        return struct.pack("=5Q10I", *[1 << 20] * 5, 4096, 255, 4096, *[0] * 7)

    def _release(self, *_):
        return b""

    _releasedir = _release

    def _fsync(self, node, _):
        node.flush()
        return b""

    def _fsyncdir(self, node, _):
        node.flush_names()
        return b""

    def _opendir(self, node, _):
        handle = len(self._listings) + 1
        self._listings[handle] = list(node.entries.items())
        return struct.pack("=QII", handle, 0, 0)

    def _readdir(self, _, body):
        handle, offset, size = _READ.unpack_from(body)
        found = b""
        for place, (name, node) in enumerate(self._listings[handle][offset:], offset + 1):
            entry = _DIRENT.pack(node.number, place, len(name), stat.S_IFMT(node.mode) >> 12) + name
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found


def _names(body):
    return bytes(body).rstrip(b"\0").split(b"\0")


def _attributes(node):
    size, (seconds, nanoseconds) = len(node.data), divmod(node.changed_ns, 10**9)
    links = node.links + 1 if node.is_folder else node.links
    return _ATTRIBUTES.pack(
        *(node.number, size, -(-size // 512), seconds, seconds, seconds, nanoseconds, nanoseconds),
        *(nanoseconds, node.mode, links, os.getuid(), os.getgid(), 0, 4096, 0),
    )


def _entry(node):
    return struct.pack("=4QII", node.number, 0, _VALID_S, _VALID_S, 0, 0) + _attributes(node)


def _say(line):
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM):  # it ends with the test, and unmounts
        signal.signal(_number, signal.SIG_IGN)
    Server(sys.argv[1]).serve()
