import pytest

from harmoni.dicom import uids
from harmoni.model.errors import Refused
from harmoni.services import verification
from memory_archive import MemoryArchive
from served_archive import CT, IMPLICIT, contexts, served


def test_an_echo_is_answered_with_success():
    archive = MemoryArchive()
    with served(archive) as running:
        channel = running.open(*contexts((uids.VERIFICATION, [IMPLICIT])))
        assert verification.echo(channel, timeout_s=10) == 0
        channel.release(5)


def test_without_a_context_nothing_can_be_asked():
    with served(MemoryArchive()) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])))
        with pytest.raises(Refused, match="no presentation context"):
            verification.echo(channel, timeout_s=10)
        channel.release(5)
