"""The main job, done and checked: store, commit, find, retrieve, compare, survive, rebuild.

Whatever is claimed in the report was checked here; whatever did not hold stands in `failures`, and
the demo fails.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from harmoni.archive.site import ArchiveSite
from harmoni.demo import samples, synthetic
from harmoni.demo.processes import Role, orderly_end
from harmoni.demo.receiver import Pacs, Received
from harmoni.demo.report import Report
from harmoni.demo.requestor import Requestor
from harmoni.demo.samples import Collection, Sample
from harmoni.demo.serve import archive_role
from harmoni.demo.system import Centre, House
from harmoni.model.identifiers import HospitalId
from harmoni.role import oversight
from harmoni.runtime.clock import Clock

_CHARACTER_SETS: Final[tuple[synthetic.CharacterSet, ...]] = ("ISO_IR 126", "ISO_IR 192")
_NAMED: Final = 20  # skipped files named one by one; the others are counted


def run(
    centre: Centre, source: Path | None, clock: Clock, advance: Callable[[int, int], None]
) -> Report:
    """Play the whole story against a centre; starts and ends its processes.

    Args:
        centre: what was built.
        source: a file or folder to send; a synthetic study for each hospital when None.
        clock: measures the acts.
        advance: told how many of how many acts are over.

    Raises:
        HarmoniError: something needed for the next act failed altogether.
    """
    report = Report()
    collections = _collections(centre, source, report)
    if centre.archive.archive.safe_copies == 1:
        report.notes.append("one site: a commitment stands for one copy (safe_copies = 1)")
    with orderly_end(), archive_role(centre, clock) as archive:
        tellers = [
            _Teller(centre, house, collection, clock, report)
            for house, collection in zip(centre.houses, collections, strict=True)
        ]
        acts: list[Callable[[], None]] = [teller.look for teller in tellers]
        for teller in tellers:
            victim = archive if teller is tellers[0] else None
            acts += [
                partial(teller.store, victim),
                teller.commit,
                teller.find,
                teller.get,
                teller.move,
                *(partial(other.see_nothing, teller) for other in tellers if other is not teller),
            ]
        for teller in tellers:
            acts += [teller.rebuild, teller.find]
        for number, act in enumerate(acts):
            advance(number, len(acts))
            act()
        advance(len(acts), len(acts))
    _check_nothing_in_clear(centre, collections, report)
    return report


class _Teller:
    """One hospital's part of the story."""

    def __init__(
        self,
        centre: Centre,
        house: House,
        collection: Collection,
        clock: Clock,
        report: Report,
    ) -> None:
        self._centre = centre
        self._house = house
        self._sent = collection
        self._clock = clock
        self._report = report
        self._requestor = Requestor(centre, house, clock)
        # Studies that an earlier run on the same directory left, where more than is sent may come.
        self._earlier: frozenset[str] = frozenset()
        self._has_sent = False

    @property
    def hospital(self) -> HospitalId:
        """Whose part it is."""
        return self._house.hospital

    @property
    def sent(self) -> Collection:
        """What was sent, without what was refused."""
        return self._sent

    def look(self) -> None:
        """See what the archive holds of these studies from an earlier run."""
        self._earlier = frozenset(
            study for study in self._sent.by_study() if self._requestor.count(study)
        )

    def store(self, victim: Role | None) -> None:
        """Send everything; in the middle end every worker of `victim` with SIGKILL."""
        self._has_sent = True
        middle = max(1, len(self._sent.samples) // 2)
        done = killed = 0

        def stored(_: Sample) -> None:
            nonlocal done, killed
            done += 1
            if victim is not None and done == middle:
                killed = victim.kill_workers()

        with self._act("C-STORE", self._sent.samples) as checked:
            refused = self._requestor.store(self._sent.samples, stored)
            checked.append(f"{done} acknowledged")
            if killed:
                checked.append(f"{killed} workers killed in the middle")
        if victim is not None and not killed:
            self._fail("no worker could be killed in the middle of storing")
        kept = tuple(
            sample for sample in self._sent.samples if sample.sop_instance_uid not in refused
        )
        self._report.notes += [
            f"{self._house.hospital}: {sample.path.name} was refused: "
            f"{refused[sample.sop_instance_uid]}"
            for sample in self._sent.samples
            if sample.sop_instance_uid in refused
        ][:_NAMED]
        if not kept:
            self._fail("nothing was stored")
        self._sent = Collection(kept, self._sent.skipped)

    def commit(self) -> None:
        """Have everything committed."""
        with self._act("storage commitment", self._sent.samples) as checked:
            failed = self._requestor.commit(self._sent.samples)
            checked.append(f"{len(self._sent.samples) - len(failed)} committed")
        for uid, why in failed.items():
            self._fail(f"{uid} was not committed: {why}")

    def find(self) -> None:
        """Find each study with as many instances as were sent."""
        studies = self._sent.by_study()
        with self._act("C-FIND", ()) as checked:
            for study, expected in studies.items():
                counts = self._requestor.count(study)
                if len(counts) != 1 or not self._is_count(study, counts[0], len(expected)):
                    self._fail(f"C-FIND of {study} gave {counts}, not [{len(expected)}]")
            many = "1 study" if len(studies) == 1 else f"{len(studies)} studies"
            checked.append(f"{many} with the right number of instances")

    def get(self) -> None:
        """Retrieve each study by C-GET and compare every data set."""
        with self._act("C-GET", self._retrievable()) as checked:
            same = sum(
                self._compare("C-GET", study, expected, self._requestor.get(study, expected))
                for study, expected in self._sent.by_study().items()
            )
            checked.append(f"{same} identical, byte for byte")

    def move(self) -> None:
        """Retrieve each study by C-MOVE to the hospital's PACS and compare every data set."""
        peer = self._house.peers[0]
        with (
            Pacs(self._house, peer, self._clock) as pacs,
            self._act("C-MOVE", self._retrievable()) as checked,
        ):
            same = 0
            for study, expected in self._sent.by_study().items():
                pacs.receiver.forget()
                self._requestor.move(study, peer.ae_title)
                same += self._compare("C-MOVE", study, expected, pacs.receiver.received())
            checked.append(f"{same} identical, byte for byte")

    def see_nothing(self, other: "_Teller") -> None:
        """Ask for another hospital's studies, and get nothing by any service."""
        own = frozenset(self._sent.by_study()) if self._has_sent else frozenset()
        strange = {
            study: expected
            for study, expected in other.sent.by_study().items()
            if study not in self._earlier | own
        }
        if not strange:
            return
        peer = self._house.peers[0]
        with self._act(f"studies of {other.hospital}", ()) as checked:
            with Pacs(self._house, peer, self._clock) as pacs:
                for study, expected in strange.items():
                    if self._requestor.count(study):
                        self._fail(f"it finds {study} of {other.hospital}")
                    if self._requestor.get(study, expected):
                        self._fail(f"it gets instances of {other.hospital}")
                    if self._requestor.move(study, peer.ae_title) or pacs.receiver.received():
                        self._fail(f"it moves instances of {other.hospital}")
            checked.append("none found, got or moved")

    def rebuild(self) -> None:
        """Make the index anew from the packs; it must be equal."""
        with self._act("vault rebuild", self._sent.samples) as checked:
            site = ArchiveSite(self._centre.archive, "demo", self._clock)
            outcome = oversight.rebuild(site, self._house.hospital.value, lambda *_: None)
            checked.append("equal" if outcome.equal else "NOT equal")
        if not outcome.equal:
            self._fail("the index that was rebuilt from the packs differs from the live one")

    def _compare(
        self,
        service: str,
        study: str,
        expected: Sequence[Sample],
        received: Mapping[str, Received],
    ) -> int:
        """Compare what came of a study with what was sent; give how many are identical."""
        same = 0
        for sample in expected:
            got = received.get(sample.sop_instance_uid)
            if got is None:
                self._fail(f"{service} did not bring {sample.path.name}")
            elif (got.transfer_syntax_uid, got.sha256) != (
                sample.transfer_syntax_uid,
                sample.sha256,
            ):
                self._fail(f"{service} brought {sample.path.name} altered")
            else:
                same += 1
        if not self._is_count(study, len(received), len(expected)):
            self._fail(f"{service} of {study} brought {len(received)}, not {len(expected)}")
        return same

    def _is_count(self, study: str, count: int, expected: int) -> bool:
        """Whether a number of instances is right; an earlier run may have left more."""
        return count == expected or (study in self._earlier and count > expected)

    def _retrievable(self) -> Sequence[Sample]:
        return [sample for study in self._sent.by_study().values() for sample in study]

    def _fail(self, sentence: str) -> None:
        self._report.failures.append(f"{self._house.hospital}: {sentence}")

    def _act(self, act: str, moved: Sequence[Sample]) -> AbstractContextManager[list[str]]:
        return self._report.act(self._house.hospital.value, act, moved, self._clock)


def _collections(centre: Centre, source: Path | None, report: Report) -> list[Collection]:
    """What each hospital sends: the given files, or a synthetic study of its own."""
    if source is None:
        return [_synthetic(centre, house, number) for number, house in enumerate(centre.houses)]
    given = samples.collect(source)
    report.notes += [f"skipped {path.name}: {why}" for path, why in given.skipped[:_NAMED]]
    if len(given.skipped) > _NAMED:
        report.notes.append(f"skipped {len(given.skipped) - _NAMED} more files like these")
    return [given for _ in centre.houses]


def _synthetic(centre: Centre, house: House, number: int) -> Collection:
    folder = centre.directory / house.hospital.value / "study"
    folder.mkdir(exist_ok=True)
    made = synthetic.study(house.hospital.value, _CHARACTER_SETS[number % len(_CHARACTER_SETS)])
    made.write(folder)
    return samples.collect(folder)


def _check_nothing_in_clear(
    centre: Centre, collections: Sequence[Collection], report: Report
) -> None:
    """Look through every file of the archive's state for the studies' UIDs."""
    needles = {study.encode() for collection in collections for study in collection.by_study()}
    pattern = re.compile(b"|".join(map(re.escape, sorted(needles))))
    for path in sorted(filter(Path.is_file, centre.archive.archive.data.rglob("*"))):
        if needles and pattern.search(path.read_bytes()):
            report.failures.append(f"a Study Instance UID stands in clear in {path}")
    if not report.failures:
        report.notes.append("no Study Instance UID stands in clear in any file of the archive")
