"""The system calls of the store, of which one fails: the `os` that `backends.filesystem` sees."""

import errno
import os

CALLS = (
    "copy_file_range",
    "fchmod",
    "fdatasync",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "open",
    "preadv",
    "pwritev",
    "rename",
    "unlink",
)
FAULTS = {"no space": errno.ENOSPC, "failing disk": errno.EIO, "half a write": errno.ENOSPC}


class Faulty:
    """The `os` of the store: counts its calls, and lets one of them fail."""

    def __init__(self, fault):
        self.calls = 0
        self.fails_at = 0
        self.failed = ""
        self._fault = fault

    def __getattr__(self, name):
        real = getattr(os, name)
        return self._counted(name, real) if name in CALLS else real

    def _counted(self, name, real):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls != self.fails_at:
                return real(*args, **kwargs)
            self.failed = name
            if name == "pwritev" and self._fault == "half a write":
                descriptor, views, offset = args
                half = memoryview(b"".join(views))
                os.pwrite(descriptor, half[: len(half) // 2], offset)
            raise OSError(FAULTS[self._fault], "injected")

        return call
