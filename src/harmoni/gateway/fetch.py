"""Fetching from the centre by C-GET, into the gateway's own holdings (PS3.4 C.4.3).

One fetch serves everybody who waits for the same instances: each reads what has arrived from the
holdings, at its own pace. What is asked for is known beforehand, so exactly the pairs of class and
transfer syntax are proposed that will come, and each request names its instances.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harmoni.audit.event import Participant
from harmoni.dicom import identifier, uids
from harmoni.dicom.identifier import Key, Query, QueryLevel, Single, UidList
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import MAX_CONTEXTS, ProposedContext
from harmoni.gateway.catalogue import Listed
from harmoni.gateway.centre import RELEASE_S, Centre
from harmoni.gateway.house import House
from harmoni.holdings import record
from harmoni.index import lookup
from harmoni.index.lookup import Held
from harmoni.model.errors import (
    Damaged,
    HarmoniError,
    InvalidInput,
    NotHeld,
    OutOfResources,
    Unreachable,
)
from harmoni.model.header import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Header,
)
from harmoni.model.instance import Origin
from harmoni.net.driver import AssociationEnded
from harmoni.role.trail import AuditDoor, Trail
from harmoni.runtime.clock import Clock
from harmoni.runtime.log import Log
from harmoni.services import acceptance, exchange, get, storage_scu
from harmoni.services.retrieve import OnPending
from harmoni.services.storage import Incoming, StoreHandler

MOST_UIDS: Final = 900
"""UIDs of one request: a list of them must fit into one Explicit VR element."""

AT_ONCE: Final = 4
"""Studies that a process fetches at the same time, each on an association of its own."""
_SILENCE_S: Final = 60.0
"""How long the centre may neither answer nor begin another instance."""
_MOST_PAIRS: Final = MAX_CONTEXTS - 1


class Fetch:
    """Instances on their way from the centre; any number of threads may wait for them.

    Args:
        house: the gateway.
        centre: opens associations.
        wanted: what is fetched.
        trail: the audit trail of what the centre gives us.
        log: the process's log.
    """

    def __init__(
        self, *, house: House, centre: Centre, wanted: Sequence[Listed], trail: Trail, log: Log
    ) -> None:
        self.trail = trail
        self._house = house
        self._centre = centre
        self._wanted = {each.sop_instance_uid: each for each in wanted}
        self._log = log
        self._changed = threading.Condition()
        self._arrived: set[str] = set()
        self._over = False
        self._error = ""
        self._lacks_room = False

    def covers(self, sop_instance_uid: str) -> bool:
        """Whether an instance is on its way by this fetch, or has arrived by it."""
        with self._changed:
            return sop_instance_uid in self._wanted and (
                not self._over or sop_instance_uid in self._arrived
            )

    def wait(self, sop_instance_uid: str, timeout_s: float) -> bool:
        """Wait until an instance has arrived, or will not any more; whether that is known."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._over or sop_instance_uid in self._arrived, timeout_s
            )

    def held(self, sop_instance_uid: str) -> Held:
        """The local copy of an instance that was waited for.

        Raises:
            Unreachable: the centre went away before it came.
            NotHeld: the centre did not give it.
            Damaged: what came is not what was asked for.
        """
        wanted = self._wanted[sop_instance_uid]
        found = self._local(wanted)
        if found is not None:
            return found
        if self._error:
            raise Unreachable(f"it could not be fetched from the centre: {self._error}")
        if sop_instance_uid in self._arrived:
            other = self._other_version(wanted)
            if other is not None:
                return other
            raise Damaged("what the centre sent has another hash than it told; ask again later")
        raise NotHeld("the centre did not send it; look at its log")

    def lacks_room(self, sop_instance_uid: str) -> bool:
        """Whether an instance that was waited for did not come because there is no room here."""
        return self._lacks_room and self._local(self._wanted[sop_instance_uid]) is None

    def run(self) -> None:
        """Fetch everything that is not here meanwhile; in a thread of its own."""
        try:
            with self._house.fetching(next(iter(self._wanted.values())).study_instance_uid):
                self._fetch()
        except HarmoniError as error:
            self._lacks_room = isinstance(error, OutOfResources)
            self._error = f"{error.code} {error}"
            self._log.warning("not fetched from the centre", why=f"{error.code} {error}")
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self._close_trail()

    def _close_trail(self) -> None:
        try:
            self.trail.close()
        except HarmoniError as error:
            # That the study came is on record; only how many of it is not.
            self._log.error("audit trail not closed", why=f"{error.code} {error}")

    def arrive(self, sop_instance_uid: str) -> None:
        """An instance is durable in the holdings."""
        with self._changed:
            self._arrived.add(sop_instance_uid)
            self._changed.notify_all()

    def _fetch(self) -> None:
        """Fetch what is missing; an association that breaks costs one instance at the most.

        Where an instance is damaged at the centre, that aborts the association. What came before it
        is here, and the rest gets a new one; if nothing came, one instance is asked for alone, so
        that in the end only the bad one is left out.
        """
        missing = self._missing(list(self._wanted.values()))
        self._house.own.room.require(sum(each.size_bytes for each in missing))
        while missing:
            try:
                self._fetch_all(missing)
            except AssociationEnded as ended:
                self._log.warning("a fetch broke off", why=f"{ended.code} {ended}")
                left = self._missing(missing)
                if len(left) == len(missing):
                    self._fetch_alone(left.pop(0))
                missing = left
            else:
                return

    def _fetch_alone(self, wanted: Listed) -> None:
        try:
            self._fetch_all([wanted])
        except AssociationEnded as ended:
            self._log.error("an instance cannot be fetched", why=f"{ended.code} {ended}")

    def _missing(self, wanted: Sequence[Listed]) -> list[Listed]:
        """What is not here yet; what somebody else has fetched meanwhile has arrived."""
        missing = []
        for each in wanted:
            if self._local(each) is None:
                missing.append(each)
            else:
                self.arrive(each.sop_instance_uid)
        return missing

    def _fetch_all(self, wanted: Sequence[Listed]) -> None:
        pairs = list(dict.fromkeys(each.pair for each in wanted))
        for start in range(0, len(pairs), _MOST_PAIRS):
            chosen = pairs[start : start + _MOST_PAIRS]
            self._fetch_pairs(chosen, [each for each in wanted if each.pair in chosen])

    def _fetch_pairs(self, pairs: Sequence[tuple[str, str]], wanted: Sequence[Listed]) -> None:
        handler = _Fetched(self, self._house, self._centre.peer.ae_title)
        get_all(
            self._centre,
            pairs,
            wanted,
            handler,
            self._house.clock,
            on_pending=lambda _: handler.lacking_room is None,
        )
        if handler.lacking_room is not None:
            raise handler.lacking_room

    def _other_version(self, wanted: Listed) -> Held | None:
        """What the centre gives where several versions came: it is one of them, of that study."""
        with self._house.own.index.reader() as connection:
            copies = lookup.versions(connection, wanted.sop_instance_uid)
        same = [
            copy
            for copy in copies
            if copy.sound
            and copy.study_instance_uid == wanted.study_instance_uid
            and copy.identity.transfer_syntax_uid == wanted.transfer_syntax_uid
            and self._house.own.is_here(copy)
        ]
        return same[-1] if same else None

    def _local(self, wanted: Listed) -> Held | None:
        """A sound local copy of the version that is wanted."""
        with self._house.own.index.reader() as connection:
            copies = lookup.versions(connection, wanted.sop_instance_uid)
        return next(
            (
                copy
                for copy in copies
                if copy.sound
                and self._house.own.is_here(copy)
                and wanted.transfer_syntax_uid == copy.identity.transfer_syntax_uid
                and wanted.sha256 in (None, copy.identity.sha256)
            ),
            None,
        )


class Fetches:
    """The fetches that are under way in this process, so that nothing is fetched twice at once."""

    def __init__(self, house: House, centre: Centre, door: AuditDoor, log: Log) -> None:
        self._house = house
        self._centre = centre
        self._door = door
        self._log = log
        self._lock = threading.Lock()
        self._running: list[Fetch] = []
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def fetch(self, wanted: Sequence[Listed]) -> Mapping[str, Fetch]:
        """Begin to fetch what is not on its way already: the fetch of each, by SOP Instance UID."""
        found: dict[str, Fetch] = {}
        with self._lock:
            by_study: dict[str, list[Listed]] = {}
            for each in wanted:
                uid = each.sop_instance_uid
                running = next((fetch for fetch in self._running if fetch.covers(uid)), None)
                if running is not None:
                    found[uid] = running
                else:
                    by_study.setdefault(each.study_instance_uid, []).append(each)
            for new in by_study.values():
                fetch = Fetch(
                    house=self._house,
                    centre=self._centre,
                    wanted=new,
                    trail=Trail(self._door, self._giver()),
                    log=self._log,
                )
                self._running.append(fetch)
                found |= {each.sop_instance_uid: fetch for each in new}
                threading.Thread(target=self._run, args=(fetch,), name="fetch", daemon=True).start()
        return found

    def _giver(self) -> Participant:
        """The centre as the audit trail names it."""
        peer = self._centre.peer
        return Participant(
            hospital=str(self._house.hospital),
            calling_ae_title=peer.ae_title,
            called_ae_title=self._house.config.gateway.ae_title,
            address=peer.host,
        )

    def _run(self, fetch: Fetch) -> None:
        try:
            with self._turns:
                fetch.run()
        finally:
            with self._lock:
                self._running.remove(fetch)


class _Fetched:
    """Keeps what the centre sends (services.storage.StoreHandler)."""

    def __init__(self, fetch: Fetch, house: House, ae_title: str) -> None:
        self.lacking_room: OutOfResources | None = None
        self._fetch = fetch
        self._house = house
        config = house.config
        self._origin = Origin(
            calling_ae_title=ae_title,
            called_ae_title=config.gateway.ae_title,
            address=config.centre.host,
            verdict=(("certificate", "match"),),
        )

    def begin(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Incoming:
        """Prepare for an instance; see services.storage.StoreHandler."""
        syntax = uids.storage_transfer_syntax(transfer_syntax_uid)
        if syntax is None:
            raise InvalidInput(f"transfer syntax {transfer_syntax_uid} is not taken for storage")
        announced = record.Announced(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax=syntax,
            origin=self._origin,
            fetched=True,
        )
        incoming = self._house.own.recorder.begin(announced)
        return _Arriving(incoming, self, sop_class_uid, sop_instance_uid)

    def arrived(self, header: Header, sop_class_uid: str, sop_instance_uid: str) -> None:
        """An instance is durable."""
        self._fetch.trail.stored(header, sop_class_uid)
        self._fetch.arrive(sop_instance_uid)


class _Arriving:
    """An `Incoming` that tells when it is kept, and when there is no room for it."""

    def __init__(
        self,
        incoming: record.Incoming,
        handler: _Fetched,
        sop_class_uid: str,
        sop_instance_uid: str,
    ) -> None:
        self.reserve = incoming.reserve
        self._incoming = incoming
        self._handler = handler
        self._sop_class_uid = sop_class_uid
        self._sop_instance_uid = sop_instance_uid

    def commit(self, count: int) -> None:
        """Take bytes, as long as there is room."""
        try:
            self._incoming.commit(count)
        except OutOfResources as error:
            self._handler.lacking_room = error
            raise

    def finish(self) -> None:
        """Keep it, then tell."""
        try:
            header = self._incoming.finish()
        except OutOfResources as error:
            self._handler.lacking_room = error
            raise
        self._handler.arrived(header, self._sop_class_uid, self._sop_instance_uid)

    def abandon(self) -> None:
        """Forget it."""
        self._incoming.abandon()


def get_all(
    centre: Centre,
    pairs: Sequence[tuple[str, str]],
    wanted: Sequence[Listed],
    handler: StoreHandler,
    clock: Clock,
    *,
    on_pending: OnPending | None = None,
) -> None:
    """Ask the centre by C-GET for instances, on an association of their own.

    Args:
        centre: opens it.
        pairs: the classes and transfer syntaxes of what is wanted, at most 127.
        wanted: what is asked for.
        handler: takes what comes.
        clock: measures the time.
        on_pending: says whether to go on, as `get.get`.

    Raises:
        AssociationEnded: it broke off; what had come before is with the handler.
        HarmoniError: it could not be opened.
    """
    contexts = [
        *storage_scu.contexts_of(pairs),
        ProposedContext(2 * len(pairs) + 1, uids.STUDY_ROOT_GET, acceptance.SERVICE_SYNTAXES),
    ]
    roles = [
        RoleSelection(sop_class_uid=sop_class, scu=False, scp=True)
        for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs)
    ]
    channel = centre.open(contexts, roles=roles)
    try:
        syntax = exchange.context_for(channel, uids.STUDY_ROOT_GET).transfer_syntax
        for number, query in enumerate(requests(wanted)):
            get.get(
                channel,
                identifier.encode_query(query, syntax),
                handler,
                sop_class_uid=uids.STUDY_ROOT_GET,
                message_id=number % 0xFFFF + 1,
                timeout_s=_SILENCE_S,
                clock=clock,
                on_pending=on_pending,
            )
    except BaseException:
        channel.abort()
        raise
    channel.release(RELEASE_S)


def requests(wanted: Sequence[Listed]) -> Iterator[Query]:
    """Cut what is wanted into identifiers of C-GET: by image, at most `MOST_UIDS` each.

    All of one request are of one series, whose keys it needs (PS3.4 C.4.2.1.4).
    """
    by_series: dict[tuple[str, str], list[str]] = {}
    for each in wanted:
        key = (each.study_instance_uid, each.series_instance_uid)
        by_series.setdefault(key, []).append(each.sop_instance_uid)
    for (study, series), images in by_series.items():
        for start in range(0, len(images), MOST_UIDS):
            some = tuple(images[start : start + MOST_UIDS])
            yield Query(
                root="STUDY",
                level=QueryLevel.IMAGE,
                keys=(
                    Key(STUDY_INSTANCE_UID, "UI", Single(study)),
                    Key(SERIES_INSTANCE_UID, "UI", Single(series)),
                    Key(
                        SOP_INSTANCE_UID,
                        "UI",
                        Single(some[0]) if len(some) == 1 else UidList(some),
                    ),
                ),
            )
