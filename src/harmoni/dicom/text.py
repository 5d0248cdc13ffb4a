"""Text of data elements: character sets (PS3.5 6.1, PS3.3 C.12.1.1.2) and the form for searching.

Decoding never fails: what a declared set cannot explain becomes U+FFFD. Greek devices often declare
nothing and write windows-1253 or ISO 8859-7; undeclared bytes are read that way, after UTF-8.
Encoding is strict: a set either writes the whole text or is not used.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pydicom import charset

from harmoni.model.header import Element

UTF_8: Final = b"ISO_IR 192"
"""The Specific Character Set that can write everything."""

_UNDECLARED: Final = ""
_STATEFUL: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
"""Codecs of Python that read and write the escape sequences themselves."""

_KATAKANA: Final = "shift_jis"
"""The codec of ISO_IR 13, which is the half of it that has one byte for each letter."""

_ESCAPE: Final = b"\x1b"
_ESCAPED_CODECS: Final = {
    escape: codec for escape, codec in charset.CODES_TO_ENCODINGS.items() if codec != "iso8859"
}
_ESCAPE_OF_CODEC: Final = charset.ENCODINGS_TO_CODES
_ESCAPE_LENGTHS: Final = (4, 3)

# Behind one of these the initial set is in force again (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = re.compile(rb"[\\\r\n\f\t]")
_PERSON_NAME_DELIMITERS: Final = re.compile(rb"[\\\r\n\f\t^=]")
_PARTS: Final = re.compile(r"([\\\r\n\f\t^=])")

_ONE_VALUE_VRS: Final = frozenset({"ST", "LT", "UT", "UR"})
"""No list of values, and spaces in front are meant (PS3.5 Table 6.2-1)."""


def decode(element: Element, character_set: bytes) -> str:
    r"""The text of an element, several values joined by a backslash; never raises.

    Padding is removed from each value. Person names keep `^` and `=`.

    Args:
        element: of a text value representation.
        character_set: Specific Character Set (0008,0005) of its data set, raw.
    """
    value = element.value
    if value.isascii() and _ESCAPE not in value:
        text = value.decode("ascii")
    else:
        text = _decode(value, _codecs(bytes(character_set)), person_name=element.vr == "PN")
    if element.vr in _ONE_VALUE_VRS:
        return text.rstrip(" \0")
    if "\\" in text:
        return "\\".join(part.strip(" \0") for part in text.split("\\"))
    return text.strip(" \0")


def encode(text: str, character_set: bytes) -> bytes | None:
    """Write text in a character set, unpadded; None when the set cannot write all of it.

    With code extensions each part between delimiters is written in one of the sets, behind its
    escape sequence.
    """
    if text.isascii():
        return text.encode("ascii")
    codecs = _codecs(bytes(character_set))
    parts = [text] if len(codecs) == 1 else _PARTS.split(text)
    written = [_encode_part(part, codecs) for part in parts]
    encoded = b"".join(part for part in written if part is not None)
    # What is not read back is not of the set: a part that none could write, or one of Python's
    # codecs knows more than the defined term for which it stands (ISO-2022-JP-2 has Korean).
    return encoded if _decode(encoded, codecs, person_name=True) == text else None


def fold(text: str) -> str:
    """The form in which text is searched: equal for every way to write the same name.

    Without case, without tonos, dialytika and other diacritics, final sigma as sigma; compatible
    forms, such as full-width letters, as the usual ones. `*`, `?`, `^`, `=` and the backslash stay.
    Folding twice gives the same as folding once.
    """
    if text.isascii():
        return text.lower()
    bare = _without_marks(_without_marks(text).casefold())
    # Some compatible forms hold capitals, and some capitals hold marks of their own.
    bare = _without_marks(bare.casefold())
    return unicodedata.normalize("NFC", bare)


def _without_marks(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    # Only the general combining marks: those of kana (U+3099) tell one letter from another.
    return "".join([letter for letter in decomposed if not "\u0300" <= letter <= "\u036f"])


def _term(name: str) -> str:
    """A defined term without the ways in which devices misspell it: ISO-IR 126, ISO_IR_126."""
    return re.sub(r"[ _-]+", " ", name.strip(" \0").upper())


_CODEC_OF_TERM: Final = {
    _term(name): codec
    for name, codec in charset.python_encoding.items()
    if codec != "iso8859"  # the default repertoire: ASCII, and what devices make of it
}


@lru_cache(maxsize=256)
def _codecs(character_set: bytes) -> tuple[str, ...]:
    """Python's codecs of a Specific Character Set, the initial one first; never empty."""
    names = character_set.decode("ascii", "replace").split("\\")
    codecs = [_CODEC_OF_TERM.get(_term(name), _UNDECLARED) for name in names]
    return (codecs[0], *(codec for codec in codecs[1:] if codec != _UNDECLARED))


def _decode(value: bytes, codecs: tuple[str, ...], *, person_name: bool) -> str:
    initial = codecs[0]
    if initial == _UNDECLARED and len(codecs) > 1 and codecs[1] not in _STATEFUL:
        # `\ISO 2022 IR 126`: letters without their escape sequence are of that set after all.
        initial = codecs[1]
    if _ESCAPE not in value:
        return _decode_part(value, initial)
    delimiters = _PERSON_NAME_DELIMITERS if person_name else _DELIMITERS
    first, *escaped = value.split(_ESCAPE)
    return _decode_part(first, initial) + "".join(
        text for part in escaped for text in _decode_escaped(_ESCAPE + part, initial, delimiters)
    )


def _decode_escaped(part: bytes, initial: str, delimiters: re.Pattern[bytes]) -> Iterator[str]:
    """Decode from one escape sequence to the next."""
    for length in _ESCAPE_LENGTHS:
        codec = _ESCAPED_CODECS.get(part[:length])
        if codec in _STATEFUL:
            yield part.decode(codec, "replace")
            return
        if codec is not None:
            end = delimiters.search(part, length)
            reset = len(part) if end is None else end.start()
            yield _decode_part(part[length:reset], codec)
            yield _decode_part(part[reset:], codec if initial == _UNDECLARED else initial)
            return
    # To ASCII (ESC 2/8 4/2), or unknown.
    yield _decode_part(part[3:], initial)


def _decode_part(part: bytes, codec: str) -> str:
    if codec != _UNDECLARED:
        return part.decode(codec, "replace")
    try:
        return part.decode("utf-8")
    except UnicodeDecodeError:
        # The two sets differ in capital alpha with tonos: B6 of ISO 8859-7 is a pilcrow in
        # windows-1253, which no name has.
        return part.decode("cp1253", "replace").replace("¶", "Ά")


def _encode_part(part: str, codecs: tuple[str, ...]) -> bytes | None:
    """Write in the first set that can, behind its escape sequence where it is not the initial."""
    for number, codec in enumerate(codecs):
        try:
            written = part.encode(codec or "ascii")
        except UnicodeEncodeError:
            continue
        if codec == _KATAKANA and len(written) != len(part):
            continue  # two bytes are kanji of Shift JIS, which the term does not mean
        if number == 0 or part.isascii() or codec in _STATEFUL:
            return written
        if codec in _ESCAPE_OF_CODEC:
            return _ESCAPE_OF_CODEC[codec] + written
    return None
