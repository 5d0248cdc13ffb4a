"""The main job, done and checked: store, commit, let go, find, retrieve, compare, rebuild.

Whatever is claimed in the report was checked here; whatever did not hold stands in `failures`, and
the demo fails.
"""

import re
import threading
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
from harmoni.demo.requestor import Requestor, archive_of, gateway_of
from harmoni.demo.samples import Collection, Sample
from harmoni.demo.serve import running
from harmoni.demo.system import Centre
from harmoni.demo.system import House as DemoHouse
from harmoni.gateway import operate as gateways
from harmoni.gateway.house import House
from harmoni.model.identifiers import HospitalId
from harmoni.role import upkeep
from harmoni.runtime.clock import Clock

_CHARACTER_SETS: Final[tuple[synthetic.CharacterSet, ...]] = ("ISO_IR 126", "ISO_IR 192")
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.5
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
    report.notes.append("each PACS may C-GET in clear text: on loopback only")
    with orderly_end(), running(centre, clock) as (archive, roles):
        tellers = [
            _Teller(centre, house, collection, clock, report)
            for house, collection in zip(centre.houses, collections, strict=True)
        ]
        acts: list[Callable[[], None]] = [teller.look for teller in tellers]
        for teller in tellers:
            victims = (archive, roles[teller.hospital]) if teller is tellers[0] else ()
            acts += [
                partial(teller.store, victims),
                teller.commit,
                teller.evict,
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
        house: DemoHouse,
        collection: Collection,
        clock: Clock,
        report: Report,
    ) -> None:
        self._centre = centre
        self._house = house
        self._sent = collection
        self._clock = clock
        self._report = report
        self._requestor = Requestor(gateway_of(house), clock)
        self._stranger = Requestor(archive_of(centre, house), clock)
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
        """See what is held of these studies from an earlier run."""
        self._earlier = frozenset(
            study for study in self._sent.by_study() if self._requestor.count(study)
        )

    def store(self, victims: Sequence[Role]) -> None:
        """Send everything; in the middle end every worker of the victims with SIGKILL."""
        self._has_sent = True
        middle = max(1, len(self._sent.samples) // 2)
        done = killed = 0

        def stored(_: Sample) -> None:
            nonlocal done, killed
            done += 1
            if done == middle:
                killed = sum(victim.kill_workers() for victim in victims)

        with self._act("C-STORE to the gateway", self._sent.samples) as checked:
            refused = self._requestor.store(self._sent.samples, stored)
            checked.append(f"{done} acknowledged")
            if killed:
                checked.append(f"{killed} workers killed in the middle")
        if victims and not killed:
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

    def evict(self) -> None:
        """Let the gateway forget its copy, once all of it is sealed and safe at the centre."""
        house = House(self._house.gateway, self._house.config_path, "demo", self._clock)
        deadline_s = self._clock.monotonic_s() + _PATIENCE_S
        pause = threading.Event()
        with self._act("evict at the gateway", self._sent.samples) as checked:
            gone = freed_bytes = 0
            while True:
                done = list(gateways.evict(house, None, lambda *_: None))
                gone += sum(each.instances for each in done)
                freed_bytes += sum(each.freed_bytes for each in done)
                stayed = [why for each in done for why in each.stayed]
                if not stayed or self._clock.monotonic_s() > deadline_s:
                    break
                pause.wait(_LOOK_S)
            checked.append(f"{gone} let go of, {freed_bytes / 1e6:.1f} MB freed")
        for why in stayed:
            self._fail(f"the gateway kept its copy: {why}")

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
            Pacs(peer, self._clock) as pacs,
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
            with Pacs(peer, self._clock) as pacs:
                for study, expected in strange.items():
                    for where, requestor in (
                        ("gateway", self._requestor),
                        ("archive", self._stranger),
                    ):
                        if requestor.count(study):
                            self._fail(f"it finds {study} of {other.hospital} at the {where}")
                        if requestor.get(study, expected):
                            self._fail(f"it gets instances of {other.hospital} at the {where}")
                    if self._requestor.move(study, peer.ae_title) or pacs.receiver.received():
                        self._fail(f"it moves instances of {other.hospital}")
            checked.append("none found, got or moved, at the gateway and at the archive")

    def rebuild(self) -> None:
        """Make the index anew from the packs; it must be equal."""
        for role, node in (
            ("archive", ArchiveSite(self._centre.archive, "demo", self._clock)),
            ("gateway", House(self._house.gateway, self._house.config_path, "demo", self._clock)),
        ):
            with self._act(f"vault rebuild at the {role}", self._sent.samples) as checked:
                outcome = upkeep.rebuild(node, self._house.hospital.value, lambda *_: None)
                checked.append("equal" if outcome.equal else "NOT equal")
            if not outcome.equal:
                self._fail(f"the {role}'s index, rebuilt from the packs, differs from the live one")

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


def _synthetic(centre: Centre, house: DemoHouse, number: int) -> Collection:
    folder = centre.directory / house.hospital.value / "study"
    folder.mkdir(exist_ok=True)
    made = synthetic.study(house.hospital.value, _CHARACTER_SETS[number % len(_CHARACTER_SETS)])
    made.write(folder)
    return samples.collect(folder)


def _check_nothing_in_clear(
    centre: Centre, collections: Sequence[Collection], report: Report
) -> None:
    """Look through every file of every role's state for the studies' UIDs."""
    needles = {study.encode() for collection in collections for study in collection.by_study()}
    pattern = re.compile(b"|".join(map(re.escape, sorted(needles))))
    places = [
        centre.archive.archive.data,
        *(house.gateway.gateway.data for house in centre.houses),
    ]
    for path in sorted(path for place in places for path in place.rglob("*") if path.is_file()):
        if needles and pattern.search(path.read_bytes()):
            report.failures.append(f"a Study Instance UID stands in clear in {path}")
    if not report.failures:
        report.notes.append("no Study Instance UID stands in clear in any file of any role")
