import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.model.errors import Damaged, InvalidInput, NotHeld
from harmoni.sealing import age, bech32
from harmoni.sealing.age import Identity, Recipient
from unit.sealing import samples

SITE, RECOVERY, STRANGER = (
    age.generate_identity(random=samples.randomness(name, 32)) for name in "abc"
)
RANDOM = samples.randomness("file", age.RANDOM_BYTES)
FILE = age.encrypt(b"an epoch key", [SITE.recipient(), RECOVERY.recipient()], random=RANDOM)


@pytest.mark.parametrize("identity", [SITE, RECOVERY])
def test_every_recipient_opens_a_file_alone(identity):
    assert age.decrypt(FILE, identity) == b"an epoch key"
    assert age.decrypt(memoryview(FILE), identity) == b"an epoch key"


def test_a_stranger_does_not_open_a_file():
    with pytest.raises(NotHeld):
        age.decrypt(FILE, STRANGER)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073])
def test_any_length_of_payload_is_read_back(size):
    plaintext = samples.randomness("plaintext", size)
    sealed = age.encrypt(plaintext, [SITE.recipient()], random=RANDOM)
    assert age.decrypt(sealed, SITE) == plaintext


def test_a_payload_cut_between_chunks_is_found():
    sealed = age.encrypt(bytes(131_072), [SITE.recipient()], random=RANDOM)
    for cut in (1, 16, 65_552, 131_104 - 15):
        with pytest.raises(Damaged):
            age.decrypt(sealed[:-cut], SITE)


def test_a_payload_with_an_empty_last_chunk_is_refused():
    """The age specification allows an empty chunk only in an empty file."""
    sealed = age.encrypt(bytes(65_536), [SITE.recipient()], random=RANDOM)
    with pytest.raises(Damaged):
        age.decrypt(sealed + bytes(16), SITE)


def test_an_altered_byte_in_any_part_of_a_file_is_found():
    """Every 37th byte of the header, whose MAC covers it all, its last line and the payload."""
    end = FILE.index(b"\n--- ")
    for place in [*range(0, end, 37), *range(end, len(FILE))]:
        changed = bytearray(FILE)
        changed[place] ^= 1
        with pytest.raises((Damaged, NotHeld)):
            age.decrypt(bytes(changed), SITE)


def test_stanzas_of_other_types_are_passed_over():
    stanza = b"-> scrypt c2FsdA 18\n" + b"A" * 64 + b"\n\n"
    first, rest = FILE.split(b"\n", 1)
    with pytest.raises(Damaged, match="header fails authentication"):
        age.decrypt(first + b"\n" + stanza + rest, SITE)


@pytest.mark.parametrize(
    "header",
    [
        b"age-encryption.org/v2\n",
        b"age-encryption.org/v1\n-> \n\n--- AAAA\n",
        b"age-encryption.org/v1\n-> mlkem768x25519\n\n--- AAAA\n",
        b"age-encryption.org/v1\n-> mlkem768x25519 AAAA\n\n--- AAAA\n",
        b"age-encryption.org/v1\n-> x\n" + b"A" * 68 + b"\n--- AAAA\n",
        b"age-encryption.org/v1\n-> x\nA\n--- AAAA\n",
        b"age-encryption.org/v1\n-> x\nAB\n--- AAAA\n",
        b"age-encryption.org/v1\n--- AA",
        b"age-encryption.org/v1\nelse\n",
    ],
)
def test_a_malformed_header_is_damaged(header):
    with pytest.raises(Damaged):
        age.decrypt(header, SITE)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        age.decrypt(data, SITE)


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_arbitrary_headers_are_damaged_or_for_somebody_else(data):
    with pytest.raises((Damaged, NotHeld)):
        age.decrypt(b"age-encryption.org/v1\n" + data, SITE)


def test_a_huge_file_is_refused_unread():
    with pytest.raises(Damaged, match="never"):
        age.decrypt(bytes(age.MAX_FILE_BYTES + 1), SITE)


def test_identities_and_recipients_have_texts():
    assert SITE.to_string().startswith("AGE-SECRET-KEY-PQ-1")
    assert Identity.from_string(SITE.to_string()) == SITE
    assert SITE.recipient().to_string().startswith("age1pq1")
    assert Recipient.from_string(SITE.recipient().to_string()) == SITE.recipient()


def test_an_identity_does_not_show_its_seed():
    assert SITE.seed.hex() not in repr(SITE)
    assert repr(SITE.seed) not in repr(SITE)


@pytest.mark.parametrize(
    "text",
    ["", "age1pq1", SITE.to_string(), bech32.encode("age1pq", bytes(1215)),
     bech32.encode("age1pq", b"\xff" * 1216)],
)  # fmt: skip
def test_what_is_no_recipient_is_invalid(text):
    with pytest.raises(InvalidInput):
        Recipient.from_string(text)


@pytest.mark.parametrize("text", ["", bech32.encode("age-secret-key-pq-", bytes(31)), "age1pq1"])
def test_what_is_no_identity_is_invalid(text):
    with pytest.raises(InvalidInput):
        Identity.from_string(text)


def test_too_little_randomness_is_a_programming_error():
    with pytest.raises(ValueError, match="random bytes"):
        age.encrypt(b"", [SITE.recipient()], random=bytes(31))
    with pytest.raises(ValueError, match="recipient"):
        age.encrypt(b"", [], random=RANDOM)
    with pytest.raises(ValueError, match="random bytes"):
        age.generate_identity(random=bytes(16))
