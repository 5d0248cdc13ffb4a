import pytest

from harmoni.dicom import identifier, uids
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.identifier import Key, Query, QueryLevel, Single, UidList, Universal, Wildcard
from harmoni.dicom.status import Status
from harmoni.model import errors
from harmoni.services import find, verification
from memory_archive import MemoryArchive
from served_archive import EXPLICIT, IMPLICIT, contexts, instance, served

STUDY_UID = 0x0020_000D
SOP_UID = 0x0008_0018
PATIENT_ID = 0x0010_0020
PATIENT_NAME = 0x0010_0010
RETRIEVE_AE = 0x0008_0054


@pytest.fixture
def archive():
    archive = MemoryArchive()
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        for number in (1, 2):
            archive.keep(instance(number, study=study))
    return archive


def query(*keys, level=QueryLevel.STUDY, root="STUDY"):
    return Query(root=root, level=level, keys=tuple(keys))


def ask(archive, asked, *, syntax=IMPLICIT, cancel_after=10_000, **options):
    sop_class = uids.STUDY_ROOT_FIND if asked.root == "STUDY" else uids.PATIENT_ROOT_FIND
    with served(archive, **options) as running:
        channel = running.open(*contexts((sop_class, [syntax]), (uids.VERIFICATION, [IMPLICIT])))
        result = find.find(
            channel,
            identifier.encode_query(asked, syntax),
            sop_class_uid=sop_class,
            max_answers=cancel_after,
            timeout_s=10,
        )
        assert verification.echo(channel, timeout_s=10) == 0
        channel.release(5)
    answers = [identifier.parse_answer(answer, syntax) for answer in result.answers]
    return result.final, answers


NAME_SELECTS = Key(PATIENT_NAME, "PN", Wildcard("DOE*"))
STUDIES = Key(STUDY_UID, "UI", Universal())


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_each_match_is_answered_with_the_keys_asked_for_and_our_ae_title(archive, syntax):
    final, answers = ask(archive, query(NAME_SELECTS, STUDIES), syntax=syntax)
    assert (final.status, final.has_data_set) == (Status.SUCCESS, False)
    assert [answer[STUDY_UID] for answer in answers] == ["1.2.3", "1.2.4", "1.2.5"]
    assert {answer[PATIENT_NAME] for answer in answers} == {"DOE^JANE"}
    assert {answer[RETRIEVE_AE] for answer in answers} == {"HARMONI"}


def test_the_patient_root_has_a_patient_level(archive):
    asked = query(Key(PATIENT_ID, "LO", Single("P1.2.4")), level=QueryLevel.PATIENT, root="PATIENT")
    final, answers = ask(archive, asked)
    assert final.status == Status.SUCCESS
    assert [answer[PATIENT_ID] for answer in answers] == ["P1.2.4"]


def test_no_match_is_success_without_answers(archive):
    final, answers = ask(archive, query(Key(STUDY_UID, "UI", Single("1.9.9"))))
    assert (final.status, answers) == (Status.SUCCESS, [])


def test_a_level_without_the_keys_above_it_is_answered_a900(archive):
    final, answers = ask(archive, query(Key(SOP_UID, "UI", Universal()), level=QueryLevel.IMAGE))
    assert (final.status, answers) == (0xA900, [])


@pytest.mark.parametrize("data", [b"", b"\x08\x00\x52\x00\xff\xff\xff\x7fSTUDY", b"x" * 2_000_000])
def test_an_identifier_that_cannot_be_read_is_answered_a900(archive, data):
    with served(archive) as running:
        channel = running.open(*contexts((uids.STUDY_ROOT_FIND, [IMPLICIT])))
        result = find.find(channel, data, sop_class_uid=uids.STUDY_ROOT_FIND, timeout_s=10)
        channel.release(5)
    assert (result.final.status, result.answers) == (0xA900, ())


@pytest.mark.parametrize(
    "key",
    [STUDIES, Key(PATIENT_NAME, "PN", Wildcard("*?*")), Key(PATIENT_NAME, "PN", Wildcard("??"))],
)
def test_a_query_that_selects_nothing_is_answered_0124_unless_the_peer_may_browse(archive, key):
    final, answers = ask(archive, query(key), may_browse=False)
    assert (final.status, answers) == (0x0124, [])
    assert ask(archive, query(key), may_browse=True)[0].status == Status.SUCCESS


@pytest.mark.parametrize("match", [Single("DOE^JANE"), Wildcard("D*"), UidList(("A", "B"))])
def test_a_key_with_any_character_selects(match):
    assert find.is_selective(query(Key(PATIENT_NAME, "PN", match), STUDIES))


def test_more_matches_than_the_limit_end_in_a700(archive):
    final, answers = ask(archive, query(STUDIES), max_answers=2)
    assert (final.status, len(answers)) == (0xA700, 2)
    assert ask(archive, query(STUDIES), max_answers=3)[0].status == Status.SUCCESS


def test_a_cancel_ends_a_query_between_two_answers(archive):
    archive.endless = True
    final, answers = ask(archive, query(STUDIES), cancel_after=5, max_answers=10**9)
    assert (final.status, len(answers)) == (Status.CANCEL, 5)
    assert archive.closed_searches == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.OutOfResources("memory"), 0xA700), (errors.Unreachable("centre"), 0xC001)],
)
def test_a_search_that_fails_after_some_answers_is_answered_with_its_status(archive, error, status):
    archive.fail_find = error
    final, answers = ask(archive, query(STUDIES))
    assert (final.status, len(answers)) == (status, 3)
    assert final.error_comment == f"{error.code} {type(error).__name__}"
    assert archive.outcomes[0].answers == 3


def test_a_requester_that_goes_away_ends_the_search(archive):
    archive.endless = True
    request = Command(
        field=CommandField.C_FIND_RQ,
        has_data_set=True,
        message_id=1,
        affected_sop_class_uid=uids.STUDY_ROOT_FIND,
        priority=0,
    )
    with served(archive, max_answers=10**9) as running:
        channel = running.open(*contexts((uids.STUDY_ROOT_FIND, [IMPLICIT])))
        data = identifier.encode_query(query(STUDIES), IMPLICIT)
        channel.send(channel.contexts[1], request, (data,))
        assert channel.receive(10).command.status == Status.PENDING
        channel.abort()
        running.line("association ended")
    assert archive.closed_searches == 1
