"""An instance as long as wanted that is nowhere whole, and a receiver that stops reading it."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import house as houses
from harmoni.demo.receiver import Receiver
from harmoni.demo.samples import Sample

_JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
_PIECE_BYTES = 1 << 20
_PIECES_OF_FRAGMENT = 64
_PIXEL_DATA = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"  # of undefined length (PS3.5 A.4)
_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class LongInstance(Sample):
    """Encapsulated pixel data in fragments of 64 MiB, made as they are sent."""

    head: bytes
    pieces: int

    def chunks(self) -> Iterator[bytes]:
        """The data set; each piece has its own number in it."""
        yield self.head
        yield _PIXEL_DATA + _ITEM + bytes(4)
        noise = bytes(range(256)) * (_PIECE_BYTES // 256)
        for number in range(self.pieces):
            if not number % _PIECES_OF_FRAGMENT:
                length = min(_PIECES_OF_FRAGMENT, self.pieces - number) * _PIECE_BYTES
                yield _ITEM + length.to_bytes(4, "little")
            yield number.to_bytes(8, "little") + noise[8:]
        yield _END


def make(study_uid: str, number: int, size_bytes: int) -> LongInstance:
    """Make one of so many bytes of pixel data, in whole MiB; its hash is known beforehand."""
    data_set = houses.data_set(number, study=study_uid, series=f"{study_uid}.1", pixels=b"")
    made = LongInstance(
        path=Path(),
        sop_class_uid=houses.CT,
        sop_instance_uid=houses.uid(number),
        transfer_syntax_uid=_JPEG_LOSSLESS,
        study_instance_uid=study_uid,
        offset=0,
        size_bytes=0,
        sha256=b"",
        pieces=size_bytes // _PIECE_BYTES,
        head=data_set.removesuffix(houses.element(0x7FE0_0010, b"OW", b"")),
    )
    digest, length = hashlib.sha256(), 0
    for chunk in made.chunks():
        digest.update(chunk)
        length += len(chunk)
    return replace(made, size_bytes=length, sha256=digest.digest())


class StallingReceiver(Receiver):
    """Stops reading in the middle of each instance, and goes on after a while."""

    def __init__(self, *, after_bytes: int, stall_s: float) -> None:
        super().__init__()
        self._after_bytes = after_bytes
        self._stall_s = stall_s

    def begin(self, **announced: str) -> "_Stalling":
        """Prepare for an instance."""
        return _Stalling(super().begin(**announced), self._after_bytes, self._stall_s)


@dataclass
class _Stalling:
    incoming: object
    left_bytes: int
    stall_s: float
    pause: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name):
        return getattr(self.incoming, name)

    def commit(self, count: int) -> None:
        self.incoming.commit(count)
        stalls = 0 < self.left_bytes <= count
        self.left_bytes -= count
        if stalls:
            self.pause.wait(self.stall_s)
