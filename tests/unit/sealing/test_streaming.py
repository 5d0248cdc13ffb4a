import hashlib
import io
import itertools

import pytest
import tink
from hypothesis import given
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from harmoni.model.errors import Damaged
from harmoni.sealing import streaming

KEY = bytes(range(32))
BOUND = b"what this member is bound to"
SALT = hashlib.sha256(b"salt").digest()
PREFIX = b"prefix7"
FIRST = streaming.SEGMENT_BYTES - streaming.HEADER_BYTES - streaming.TAG_BYTES
FULL = streaming.SEGMENT_BYTES - streaming.TAG_BYTES
BOUNDARY_SIZES = sorted(
    {0, 1, 15, 16, 17, 40, 512}
    | {FIRST + n * FULL + d for n in range(3) for d in (-17, -16, -1, 0, 1, 16, 17)}
)

streaming_aead.register()


def plaintext_of(size):
    return (hashlib.sha512(b"plaintext").digest() * (size // 64 + 1))[:size]


def encrypted(plaintext, **changes):
    arguments = {"data_key": KEY, "associated_data": BOUND, "salt": SALT, "nonce_prefix": PREFIX}
    return bytes(streaming.encrypt([plaintext], **(arguments | changes)))


def decrypted(ciphertext):
    return bytes(streaming.decrypt(ciphertext, data_key=KEY, associated_data=BOUND))


@pytest.fixture(scope="module")
def oracle():
    """The tink package with our key and segment size."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=streaming.SEGMENT_BYTES,
            derived_key_size=32,
            hkdf_hash_type=common_pb2.SHA256,
        ),
        key_value=KEY,
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=key.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Unclosed(io.BytesIO):
    def close(self):
        """Tink closes what it writes to; the bytes are needed afterwards."""


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_tink_opens_what_we_encrypt(oracle, size):
    source = io.BytesIO(encrypted(plaintext_of(size)))
    with oracle.new_decrypting_stream(source, BOUND) as stream:
        assert stream.read() == plaintext_of(size)


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_we_open_what_tink_encrypts(oracle, size):
    sink = Unclosed()
    with oracle.new_encrypting_stream(sink, BOUND) as stream:
        stream.write(plaintext_of(size))
    assert len(sink.getvalue()) == streaming.ciphertext_size(size)
    assert decrypted(sink.getvalue()) == plaintext_of(size)


@given(st.integers(0, 300_000), st.lists(st.integers(0, 140_000), max_size=5))
def test_property_chunks_of_any_size_give_the_bytes_of_the_whole(size, cuts):
    plaintext = plaintext_of(size)
    places = sorted({0, size, *(cut for cut in cuts if cut < size)})
    chunks = [plaintext[a:b] for a, b in itertools.pairwise(places)]
    encryptor = streaming.Encryptor(
        data_key=KEY, associated_data=BOUND, salt=SALT, nonce_prefix=PREFIX
    )
    out = bytearray()
    for chunk in chunks:
        encryptor.update(chunk, out)
    encryptor.finish(out)
    whole = streaming.encrypt(
        chunks, data_key=KEY, associated_data=BOUND, salt=SALT, nonce_prefix=PREFIX
    )
    assert out == whole == encrypted(plaintext)
    assert decrypted(out) == plaintext


def test_bytes_fed_one_by_one_give_the_bytes_of_the_whole():
    encryptor = streaming.Encryptor(
        data_key=KEY, associated_data=BOUND, salt=SALT, nonce_prefix=PREFIX
    )
    plaintext = plaintext_of(300)
    out = bytearray()
    for value in plaintext:
        encryptor.update(bytes((value,)), out)
    encryptor.finish(out)
    assert out == encrypted(plaintext)


@given(st.integers(0, 1 << 40))
def test_property_sizes_are_each_other_s_inverse(size):
    assert streaming.plaintext_size(streaming.ciphertext_size(size)) == size


def test_lengths_that_no_member_has_are_damaged():
    possible = {streaming.ciphertext_size(size) for size in range(FIRST + 40)}
    for length in range(streaming.SEGMENT_BYTES + 50):
        if length in possible:
            assert streaming.ciphertext_size(streaming.plaintext_size(length)) == length
        else:
            with pytest.raises(Damaged):
                streaming.plaintext_size(length)


def test_room_is_left_before_and_after_the_ciphertext():
    out = encrypted(b"abc", lead=512, pad=9)
    assert out == bytes(512) + encrypted(b"abc") + bytes(9)


def decryptor_of(ciphertext, size=None):
    return streaming.Decryptor(
        data_key=KEY,
        associated_data=BOUND,
        header=ciphertext[: streaming.HEADER_BYTES],
        ciphertext_size=len(ciphertext) if size is None else size,
    )


@pytest.mark.parametrize("size", [0, 1, FIRST, FIRST + 1, FIRST + FULL, FIRST + 2 * FULL + 9])
def test_any_segment_opens_alone_and_lies_where_the_ranges_say(size):
    plaintext, ciphertext = plaintext_of(size), encrypted(plaintext_of(size))
    decryptor = decryptor_of(ciphertext)
    assert decryptor.plaintext_size == size
    for segment in reversed(range(decryptor.segments)):
        start, length = decryptor.segment_range(segment)
        begin, count = decryptor.plaintext_range(segment)
        opened = decryptor.open(segment, ciphertext[start : start + length])
        assert opened == plaintext[begin : begin + count]
    assert sum(decryptor.plaintext_range(decryptor.segments - 1)) == size


@pytest.mark.parametrize("offset", [0, FIRST - 1, FIRST, FIRST + FULL - 1, FIRST + FULL])
def test_a_byte_of_the_plaintext_is_located(offset):
    plaintext = plaintext_of(FIRST + 2 * FULL)
    ciphertext = encrypted(plaintext)
    decryptor = decryptor_of(ciphertext)
    segment, within = decryptor.locate(offset)
    start, length = decryptor.segment_range(segment)
    assert decryptor.open(segment, ciphertext[start : start + length])[within] == plaintext[offset]


def test_a_run_from_the_middle_opens_at_once():
    plaintext = plaintext_of(FIRST + 3 * FULL + 5)
    ciphertext = encrypted(plaintext)
    decryptor = decryptor_of(ciphertext)
    start, _ = decryptor.segment_range(1)
    end = sum(decryptor.segment_range(2))
    assert decryptor.open_run(1, ciphertext[start:end]) == plaintext[FIRST : FIRST + 2 * FULL]
    assert decryptor.open_run(1, ciphertext[start:]) == plaintext[FIRST:]


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_an_empty_run_or_one_that_goes_too_far_is_damaged(first):
    ciphertext = encrypted(plaintext_of(FIRST + 2 * FULL))
    decryptor = decryptor_of(ciphertext)
    start, _ = decryptor.segment_range(first)
    for run in (b"", ciphertext[start:] + bytes(100), ciphertext[start:] + bytes(70_000)):
        with pytest.raises(Damaged):
            decryptor.open_run(first, run)


def test_every_flipped_byte_of_a_small_member_is_found():
    ciphertext = encrypted(b"a small member")
    for place in range(len(ciphertext)):
        altered = bytearray(ciphertext)
        altered[place] ^= 0x40
        with pytest.raises(Damaged):
            decrypted(altered)


@pytest.mark.parametrize("size", [0, 14, FIRST, FIRST + 1, FIRST + FULL + 3])
@pytest.mark.parametrize("cut", [1, 16, 17, 40])
def test_a_cut_member_is_found(size, cut):
    with pytest.raises(Damaged):
        decrypted(encrypted(plaintext_of(size))[:-cut])


def test_a_member_cut_after_a_whole_segment_is_found():
    with pytest.raises(Damaged):
        decrypted(encrypted(plaintext_of(FIRST + FULL + 3))[: 2 * streaming.SEGMENT_BYTES])


def test_a_longer_member_is_found():
    with pytest.raises(Damaged):
        decrypted(encrypted(plaintext_of(FIRST)) + bytes(17))


def test_exchanged_segments_are_found():
    ciphertext = encrypted(plaintext_of(FIRST + 3 * FULL))
    step = streaming.SEGMENT_BYTES
    exchanged = (
        ciphertext[:step]
        + ciphertext[2 * step : 3 * step]
        + ciphertext[step : 2 * step]
        + ciphertext[3 * step :]
    )
    assert len(exchanged) == len(ciphertext)
    with pytest.raises(Damaged):
        decrypted(exchanged)


def test_a_segment_is_refused_where_another_belongs():
    ciphertext = encrypted(plaintext_of(FIRST + 2 * FULL))
    decryptor = decryptor_of(ciphertext)
    start, length = decryptor.segment_range(1)
    for segment in (-1, 0, 2, 3):
        with pytest.raises(Damaged):
            decryptor.open(segment, ciphertext[start : start + length])


@pytest.mark.parametrize("change", ["data_key", "associated_data"])
def test_another_key_or_place_does_not_open(change):
    ciphertext = encrypted(b"bound", **{change: bytes(32)})
    with pytest.raises(Damaged):
        decrypted(ciphertext)


@given(st.binary(max_size=200), st.integers(0, 1 << 50))
def test_arbitrary_bytes_are_damaged(data, size):
    with pytest.raises(Damaged):
        decrypted(data)
    with pytest.raises(Damaged):
        decryptor_of(data, size).open(0, data[streaming.HEADER_BYTES :])


@pytest.mark.parametrize(
    "change", [{"data_key": b"short"}, {"salt": b"short"}, {"nonce_prefix": b"longer than seven"}]
)
def test_parameters_of_another_length_are_a_programming_error(change):
    with pytest.raises(ValueError, match="bytes, not"):
        encrypted(b"", **change)


def test_room_of_another_length_is_a_programming_error():
    encryptor = streaming.Encryptor(
        data_key=KEY, associated_data=BOUND, salt=SALT, nonce_prefix=PREFIX
    )
    with pytest.raises(ValueError, match="59 bytes of room"):
        encryptor.encrypt_into([b"abc"], memoryview(bytearray(60)))
