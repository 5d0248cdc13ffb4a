"""One hospital and another on one archive: what is another's is as if it did not exist."""

import socket
import ssl
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pynetdicom import AE, build_role, evt
from pynetdicom import sop_class as sop

from archive_role import CALLED, HOST, SUSPENDED, client_context, dataset
from harmoni.archive.site import ArchiveSite
from harmoni.audit.event import Act, Outcome
from harmoni.fleet import ca
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.runtime.clock import SystemClock
from tls_material import DAY_MS, now_ms, write_node

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


# Who is let in at all.


def try_to_associate(role, context, *, called=CALLED, calling="PYNET"):
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.network_timeout = WAIT_S
    entity.add_requested_context(sop.Verification, [IMPLICIT])
    association = entity.associate(
        HOST, role.port, ae_title=called, tls_args=(context, None) if context else None
    )
    if association.is_established:
        association.release()
        return "accepted"
    if not association.is_rejected:
        return "no association"
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def refusals(role):
    return [
        event
        for event in role.audited()
        if event.act is Act.NODE_AUTHENTICATION and event.outcome is Outcome.SERIOUS_FAILURE
    ]


def assert_rejected_and_audited(role, context, answer, **options):
    calling = uuid.uuid4().hex[:16].upper()
    assert try_to_associate(role, context, calling=calling, **options) == answer
    (event,) = [event for event in refusals(role) if event.who.calling_ae_title == calling]
    assert event.reason
    assert event.who.address == HOST
    return event


def test_a_hospital_of_the_centre_is_let_in(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    assert try_to_associate(archive_role, context) == "accepted"


def test_a_suspended_hospital_is_rejected(archive_role):
    context = client_context(archive_role.house(SUSPENDED).tls_files)
    event = assert_rejected_and_audited(archive_role, context, (1, 1, 3))
    assert event.who.hospital == SUSPENDED


def test_a_wrong_called_ae_title_is_rejected_as_such(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    assert_rejected_and_audited(archive_role, context, (1, 1, 7), called="OTHER")


def issued(role, folder, name, owner, *, signer=None, at_ms=None):
    made = ca.issue(
        signer or role.authority, owner=owner, common_name=name, now_ms=at_ms or now_ms()
    )
    return write_node(folder, name, made, role.authority.cert_pem)


def with_uris(role, folder, uris):
    """A certificate of the centre's authority that names what `fleet.ca` would never issue."""
    files = issued(role, folder, "odd", HospitalId("hospital-a"))
    authority = x509.load_pem_x509_certificate(role.authority.cert_pem)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    signer = serialization.load_pem_private_key(role.authority.key_pem, None)
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return files


def test_a_sites_certificate_is_no_hospitals(archive_role, tmp_path):
    files = issued(archive_role, tmp_path, "site", SiteId("dc1"))
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


def test_a_hospital_that_is_not_registered_is_rejected(archive_role, tmp_path):
    files = issued(archive_role, tmp_path, "stranger", HospitalId("hospital-z"))
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


@pytest.mark.parametrize(
    "uris",
    [
        ["urn:harmoni:hospital:hospital-a", "urn:harmoni:hospital:hospital-b"],
        ["urn:harmoni:hospital:hospital-a ", "urn:harmoni:hospital:"],
        ["urn:harmoni:hospital:HOSPITAL-A"],
        ["urn:harmoni:hospital:hospital-a/../hospital-b"],
        [],
    ],
)
def test_a_certificate_must_name_exactly_one_hospital(archive_role, tmp_path, uris):
    files = with_uris(archive_role, tmp_path, uris)
    assert_rejected_and_audited(archive_role, client_context(files), (1, 1, 3))


def alert(role, context):
    """The TLS alert that a handshake ends in."""
    with (
        pytest.raises(ssl.SSLError) as error,
        socket.create_connection((HOST, role.port), timeout=WAIT_S) as plain,
        context.wrap_socket(plain) as secured,
    ):
        # In TLS 1.3 the client hears of the refusal only when it reads.
        secured.recv(1)
    return error.value.reason


def test_a_foreign_authority_ends_in_an_alert(archive_role, tmp_path):
    stranger = ca.create_authority("HARMONI demo", now_ms())
    files = issued(archive_role, tmp_path, "foreign", HospitalId("hospital-a"), signer=stranger)
    before = refusals(archive_role)
    assert "ALERT_UNKNOWN_CA" in alert(archive_role, client_context(files))
    # The event is written after the alert was sent, by a thread of the worker.
    until_s = time.monotonic() + WAIT_S
    while len(refusals(archive_role)) == len(before) and time.monotonic() < until_s:
        time.sleep(0.05)
    (event,) = [event for event in refusals(archive_role) if event not in before]
    assert event.who.address == HOST
    assert event.who.calling_ae_title == ""
    assert event.reason.startswith("TLS: ")


def test_an_expired_certificate_ends_in_an_alert(archive_role, tmp_path):
    old = ca.issue(
        archive_role.authority,
        owner=HospitalId("hospital-a"),
        common_name="old",
        now_ms=now_ms() - 100 * DAY_MS,
        days=90,
    )
    files = write_node(tmp_path, "old", old, archive_role.authority.cert_pem)
    assert "ALERT_CERTIFICATE_EXPIRED" in alert(archive_role, client_context(files))


def test_no_certificate_ends_in_an_alert(archive_role):
    trusted = archive_role.house("hospital-a").tls_files.authorities
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = False
    assert "CERTIFICATE_REQUIRED" in alert(archive_role, context)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_tls_version_ends_in_an_alert(archive_role, version):
    context = client_context(archive_role.house("hospital-a").tls_files)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    assert "ALERT_PROTOCOL_VERSION" in alert(archive_role, context)


def test_without_tls_there_is_no_association(archive_role):
    assert try_to_associate(archive_role, None) == "no association"


def test_a_hospital_may_speak_tls_1_2(archive_role):
    context = client_context(archive_role.house("hospital-a").tls_files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert try_to_associate(archive_role, context) == "accepted"
