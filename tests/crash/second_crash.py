"""A crash during the recovery from another: recovery is work, too, and is played as such."""

from dataclasses import replace
from pathlib import Path

from crash import index_log
from crash import journal as j
from crash.invariants import Examiner
from crash.promised import Promised
from crash.recording import Numbers, RecordingFilesystem, baseline
from crash.states import State
from crash.work import Run, deterministic
from harmoni.model.errors import StorageFailed


def recovery_of(run: Run, state: State, root: Path, seed: int) -> Run | None:
    """Recover from a state of a run below a directory that does not exist, recorded.

    Returns:
        The recovery as a run of its own, in which all that the first had acknowledged by then
        counts as acknowledged; None where the index is lost, whose rebuild is a scenario already.
    """
    store = root / "data"
    root.mkdir()
    examiner = Examiner(run, store)
    examiner.put(state)
    numbers = Numbers()
    journal = baseline(store, numbers)
    files = RecordingFilesystem(store, journal, numbers)
    with deterministic(seed):
        house = examiner.process(files)
        try:
            database = house.holding.index.database()
        except StorageFailed:
            return None
        journal.databases = {str(database.path.relative_to(store)): index_log.copy(database, root)}
        for entry in run.journal.entries[: state.point]:
            if isinstance(entry, j.Mark):
                journal.note(entry)
        journal.note(j.Phase("recovery"))
        with index_log.recorded(journal, store, root):
            examiner.recover(house, Promised.by(run.journal, state.point), may_rebuild=False)
    return replace(run, journal=journal, ended_s=run.ended_s + 3600)
