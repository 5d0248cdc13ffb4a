"""Load for tests of faults: senders that store until they are told to end, and remember."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import centre
from harmoni.demo.requestor import Requestor
from harmoni.demo.samples import Sample
from harmoni.demo.system import House

BATCHES_BYTES = ([2_000] * 6 + [300_000] * 2, [1_000, 5 << 20, 40_000], [7 << 20], [20_000] * 10)

Note = Callable[[Sample], None]
"""Called with what was acknowledged."""
By = Callable[[House, Sequence[Sample], Note], None]
"""Stores a batch, again what was not answered; returns when all of it is acknowledged."""


class Load:
    """Senders that store different instances until they are told to end, and what they were told.

    A sender ends only after all of its last batch was acknowledged, so at the end everything that
    was ever sent is known to be kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._threads = []
        self.acknowledged = defaultdict(dict)  # (hospital, study) to UID to sample
        self.errors = []
        self.count = 0

    def start(self, house: House, study: str, by: By) -> None:
        """Start one sender; it has a study for itself."""
        thread = threading.Thread(target=self._send, args=(house, study, by))
        thread.start()
        self._threads.append(thread)

    def await_more(self, number: int) -> None:
        """Return when so many more instances were acknowledged."""
        with self._changed:
            wanted = self.count + number
            done = self._changed.wait_for(lambda: self.count >= wanted or self.errors, 60)
            assert not self.errors, self.errors
            assert done, "nothing is acknowledged any more"

    def end(self) -> None:
        """End the senders."""
        self._over.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a sender cannot get rid of its last batch"
        assert not self.errors, self.errors

    def _send(self, house: House, study: str, by: By) -> None:
        source = random.Random(study)
        first = 1
        try:
            while not self._over.is_set():
                sizes = source.choice(BATCHES_BYTES)
                batch = centre.write_instances(self._folder, study, sizes, source, first)
                first += len(batch)
                by(house, batch, lambda sample: self._note(house, study, sample))
                for sample in batch:
                    sample.path.unlink()
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            with self._changed:
                self.errors.append(error)
                self._changed.notify_all()

    def _note(self, house: House, study: str, sample: Sample) -> None:
        with self._changed:
            self.acknowledged[house.hospital, study][sample.sop_instance_uid] = sample
            self.count += 1
            self._changed.notify_all()


def ours(requestor: Callable[[House], Requestor]) -> By:
    """Store with our own requestor, which sends again what was not answered."""

    def store(house: House, batch: Sequence[Sample], note: Note) -> None:
        refused = requestor(house).store(batch, note)
        assert not refused, f"nothing was full or wrong, yet refused: {refused}"

    return store
