"""One hospital and another on one archive: what is another's is as if it did not exist."""

import ssl
import threading
import uuid
from contextlib import contextmanager

import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom import sop_class as sop

from archive_role import HOST, dataset
from harmoni.archive.site import ArchiveSite
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = sop.CTImageStorage
FIND = {
    "PATIENT": sop.PatientRootQueryRetrieveInformationModelFind,
    "STUDY": sop.StudyRootQueryRetrieveInformationModelFind,
}
GET = {
    "PATIENT": sop.PatientRootQueryRetrieveInformationModelGet,
    "STUDY": sop.StudyRootQueryRetrieveInformationModelGet,
}
MOVE = {
    "PATIENT": sop.PatientRootQueryRetrieveInformationModelMove,
    "STUDY": sop.StudyRootQueryRetrieveInformationModelMove,
}
COMMITMENT = sop.StorageCommitmentPushModel
GRACE_MS = 600_000
WAIT_S = 20


def uid():
    return f"2.25.{uuid.uuid4().int}"


class Names:
    """The identifiers of one instance, all new."""

    def __init__(self):
        self.patient = uuid.uuid4().hex[:16].upper()
        self.accession = uuid.uuid4().hex[:12].upper()
        self.study, self.series, self.instance = uid(), uid(), uid()


def image(names, pixels=b"\x01\x02" * 64):
    made = dataset(
        SOPClassUID=CT,
        SOPInstanceUID=names.instance,
        StudyInstanceUID=names.study,
        SeriesInstanceUID=names.series,
        PatientID=names.patient,
        PatientName=f"Name^{names.patient}",
        AccessionNumber=names.accession,
        StudyDate="20260302",
        Modality="CT",
        Rows=8,
        Columns=8,
        BitsAllocated=16,
    )
    made.add_new(0x7FE00010, "OW", pixels)
    made.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    made.file_meta.MediaStorageSOPClassUID = CT
    made.file_meta.MediaStorageSOPInstanceUID = names.instance
    return made


def store(role, hospital, names, **pixels):
    with role.associated(hospital, [(CT, [EXPLICIT])]) as association:
        assert association.send_c_store(image(names, **pixels)).Status == 0x0000


@pytest.fixture(scope="module")
def kept(archive_role):
    """Identifiers of what each of the two hospitals keeps; and of nothing at all."""
    names = {"hospital-a": Names(), "hospital-b": Names(), "nobody": Names()}
    for hospital in ("hospital-a", "hospital-b"):
        store(archive_role, hospital, names[hospital])
    return names


def unique_keys(root, level, names):
    keys = {"STUDY": {}, "PATIENT": {"PatientID": names.patient}}[root]
    if level != "PATIENT":
        keys |= {"StudyInstanceUID": names.study}
    if level in ("SERIES", "IMAGE"):
        keys |= {"SeriesInstanceUID": names.series}
    if level == "IMAGE":
        keys |= {"SOPInstanceUID": names.instance}
    return dataset(QueryRetrieveLevel=level, **keys)


QUESTIONS = {
    **{
        f"{root} {level}": (root, lambda names, r=root, lv=level: unique_keys(r, lv, names))
        for root in FIND
        for level in ("PATIENT", "STUDY", "SERIES", "IMAGE")
        if (root, level) != ("STUDY", "PATIENT")
    },
    "accession number": (
        "STUDY",
        lambda names: dataset(
            QueryRetrieveLevel="STUDY", AccessionNumber=names.accession, StudyInstanceUID=""
        ),
    ),
    "patient's name": (
        "STUDY",
        lambda names: dataset(QueryRetrieveLevel="STUDY", PatientName=f"NAME^{names.patient[:6]}*"),
    ),
}


def find(role, hospital, root, asked):
    with role.associated(hospital, [(FIND[root], [IMPLICIT])]) as association:
        return [
            (status.to_json_dict(), answer and answer.to_json_dict())
            for status, answer in association.send_c_find(asked, FIND[root])
        ]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_query_for_what_is_anothers_is_answered_like_one_for_nothing(
    archive_role, kept, question
):
    root, ask = QUESTIONS[question]
    for hospital, other in (("hospital-a", "hospital-b"), ("hospital-b", "hospital-a")):
        own = find(archive_role, hospital, root, ask(kept[hospital]))
        assert len(own) == 2, "one match and a final response"
        anothers = find(archive_role, hospital, root, ask(kept[other]))
        assert anothers == find(archive_role, hospital, root, ask(kept["nobody"]))
        assert len(anothers) == 1


def test_a_wildcard_finds_only_ones_own(archive_role, kept):
    asked = dataset(QueryRetrieveLevel="STUDY", StudyDate="20260302", StudyInstanceUID="")
    for hospital, other in (("hospital-a", "hospital-b"), ("hospital-b", "hospital-a")):
        found = str(find(archive_role, hospital, "STUDY", asked))
        assert kept[hospital].study in found
        assert kept[other].study not in found


RETRIEVED = [(root, level) for root in GET for level in ("STUDY", "SERIES", "IMAGE")] + [
    ("PATIENT", "PATIENT")
]


def get(role, hospital, root, asked):
    received = []

    def take(event):
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    with role.associated(
        hospital,
        [(GET[root], [IMPLICIT]), (CT, [EXPLICIT])],
        roles=[build_role(CT, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        *_, (final, _) = association.send_c_get(asked, GET[root])
    return final.to_json_dict(), received


@pytest.mark.parametrize(("root", "level"), RETRIEVED)
def test_nothing_of_anothers_is_got(archive_role, kept, root, level):
    for hospital, other in (("hospital-a", "hospital-b"), ("hospital-b", "hospital-a")):
        _, own = get(archive_role, hospital, root, unique_keys(root, level, kept[hospital]))
        assert len(own) == 1
        anothers = get(archive_role, hospital, root, unique_keys(root, level, kept[other]))
        nobodys = get(archive_role, hospital, root, unique_keys(root, level, kept["nobody"]))
        assert anothers == nobodys
        assert anothers[1] == []


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_among_ones_own_anothers_is_passed_over_like_nobodys(archive_role, kept, level):
    """A list of UIDs gives what is one's own of it, whoever else holds the others."""
    own, results = kept["hospital-a"], {}
    for who in ("hospital-b", "nobody"):
        both = [own, kept[who]]
        asked = dataset(QueryRetrieveLevel=level, StudyInstanceUID=own.study)
        if level == "STUDY":
            asked.StudyInstanceUID = [names.study for names in both]
        else:
            asked.SeriesInstanceUID = own.series
        if level == "SERIES":
            asked.SeriesInstanceUID = [names.series for names in both]
        if level == "IMAGE":
            asked.SOPInstanceUID = [names.instance for names in both]
        results[who] = (
            find(archive_role, "hospital-a", "STUDY", asked),
            get(archive_role, "hospital-a", "STUDY", asked),
        )
    assert results["hospital-b"] == results["nobody"]
    found, (_, received) = results["nobody"]
    assert (len(found), len(received)) == (2, 1)


@pytest.mark.parametrize("mixed", ["patient", "study", "series"])
def test_anothers_key_above_ones_own_finds_nothing(archive_role, kept, mixed):
    asked = unique_keys("PATIENT", "IMAGE", kept["hospital-a"])
    keyword = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
    answers = []
    for who in ("hospital-b", "nobody"):
        setattr(asked, keyword[mixed], getattr(kept[who], mixed))
        answers.append(
            (
                find(archive_role, "hospital-a", "PATIENT", asked),
                get(archive_role, "hospital-a", "PATIENT", asked),
            )
        )
    assert answers[0] == answers[1]
    assert answers[0][1][1] == []


@contextmanager
def destination(role, hospital, identity=None):
    """The hospital's PACS, pynetdicom's storage SCP over TLS, and what arrives there."""
    house = role.house(hospital)
    received = []

    def take(event):
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    files = identity or house.tls_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    entity = AE(ae_title=house.peers[0].ae_title)
    entity.add_supported_context(CT, [EXPLICIT])
    server = entity.start_server(
        (HOST, house.peers[0].port),
        block=False,
        ssl_context=context,
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    try:
        yield received
    finally:
        server.shutdown()


def move(role, hospital, root, asked, to):
    with role.associated(hospital, [(MOVE[root], [IMPLICIT])]) as association:
        *_, (final, _) = association.send_c_move(asked, to, MOVE[root])
    return final.to_json_dict(), final.Status


def test_nothing_is_moved_to_anothers_destination(archive_role, kept):
    with destination(archive_role, "hospital-b") as received:
        for names in kept.values():
            asked = unique_keys("STUDY", "STUDY", names)
            there = move(archive_role, "hospital-a", "STUDY", asked, "PACS_B")
            assert there == move(archive_role, "hospital-a", "STUDY", asked, "NOWHERE")
            assert there[1] == 0xA801
    assert received == []


def test_nothing_of_anothers_is_moved_to_ones_own_destination(archive_role, kept):
    with destination(archive_role, "hospital-a") as received:
        for root, level in RETRIEVED:
            anothers = move(
                archive_role,
                "hospital-a",
                root,
                unique_keys(root, level, kept["hospital-b"]),
                "PACS_A",
            )
            nobodys = move(
                archive_role, "hospital-a", root, unique_keys(root, level, kept["nobody"]), "PACS_A"
            )
            assert anothers == nobodys
        assert received == []
        asked = unique_keys("STUDY", "STUDY", kept["hospital-a"])
        assert move(archive_role, "hospital-a", "STUDY", asked, "PACS_A")[1] == 0x0000
        assert len(received) == 1


def test_nothing_is_sent_to_a_destination_with_anothers_certificate(archive_role, kept):
    impostor = archive_role.house("hospital-b").tls_files
    with destination(archive_role, "hospital-a", impostor) as received:
        asked = unique_keys("STUDY", "STUDY", kept["hospital-a"])
        assert move(archive_role, "hospital-a", "STUDY", asked, "PACS_A")[1] == 0xA702
    assert received == []


class Later:
    """The clock of a keeper that looks at the archive after the grace time is over."""

    def now_ms(self):
        return SystemClock().now_ms() + GRACE_MS + 1000

    def monotonic_s(self):
        return SystemClock().monotonic_s()


def test_commitment_for_what_is_anothers_fails_like_one_for_nothing(archive_role, kept):
    """0112 for both, after the time in which an instance may still arrive."""
    reports, arrived = {}, threading.Semaphore(0)

    def take(event):
        reports[event.event_information.TransactionUID] = event.event_information
        arrived.release()
        return 0x0000, None

    def request(association, names):
        asked = dataset(
            TransactionUID=uid(),
            ReferencedSOPSequence=[
                dataset(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=names.instance)
            ],
        )
        status, _ = association.send_n_action(
            asked, 1, COMMITMENT, sop.StorageCommitmentPushModelInstance
        )
        assert status.Status == 0x0000
        return asked.TransactionUID

    with archive_role.associated(
        "hospital-a", [(COMMITMENT, [IMPLICIT])], handlers=[(evt.EVT_N_EVENT_REPORT, take)]
    ) as association:
        anothers = request(association, kept["hospital-b"])
        nobodys = request(association, kept["nobody"])
        own = request(association, kept["hospital-a"])
        assert arrived.acquire(timeout=WAIT_S)
        # The keeper went through all three, and only one's own is final.
        assert reports.keys() == {own}
        assert reports[own].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
            kept["hospital-a"].instance
        )
        later = ArchiveSite(archive_role.centre.archive, "later", Later())
        assert later.holding(HospitalId("hospital-a")).commitments.resolve_all() == 2
        assert arrived.acquire(timeout=WAIT_S)
        assert arrived.acquire(timeout=WAIT_S)
    reasons = {
        name: [item.FailureReason for item in reports[name].FailedSOPSequence]
        for name in (anothers, nobodys)
    }
    assert reasons == {anothers: [0x0112], nobodys: [0x0112]}


def test_the_same_uids_at_two_hospitals_are_two_objects(archive_role):
    names = Names()
    pixels = {"hospital-a": b"\x0a\x0a" * 64, "hospital-b": b"\x0b\x0b" * 64}
    for hospital, own in pixels.items():
        store(archive_role, hospital, names, pixels=own)
    for hospital, own in pixels.items():
        _, received = get(archive_role, hospital, "STUDY", unique_keys("STUDY", "STUDY", names))
        assert [data.endswith(own) for data in received] == [True]
