"""P12: bytes of sealed packs over the data sets in them, and bytes of the index per instance.

    python bench/sizes.py [--ct 1000] [--studies 1000]

One study of so many CT of 512 KiB, and so many studies of two series with ten instances of 16 KiB
each, whose headers are as long as those of real ones. The index is measured with its log used up.
`pages` tells what takes the room: bytes per instance of each table and of each index by name; what
SQLite makes for a primary key or UNIQUE counts as its table's. Prints JSON.
"""

import argparse
import json
import random
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import house as houses
from harmoni.dicom import uids
from harmoni.holdings.record import Announced
from harmoni.model.instance import Origin

_CT_BYTES: Final = 512 << 10
_SMALL_BYTES: Final = 16 << 10
_MR: Final = "1.2.840.10008.5.1.4.1.1.4"
_INSTANCES: Final = 20
_SERIES: Final = 2
_SEAL_EVERY: Final = 100
"""Studies: fewer open at once than a worker has room for."""
_STUDY_EVERY_S: Final = 600.0
_ORIGIN: Final = Origin(
    calling_ae_title="PACS_A",
    called_ae_title="HARMONI",
    address="192.0.2.7",
    verdict=(("certificate", "match"),),
)
_SURNAMES: Final = ("Παπαδόπουλος", "Οικονόμου", "Γεωργίου", "Βασιλείου", "Νικολάου")
_GIVEN: Final = ("Γιώργος", "Μαρία", "Ελένη", "Κωνσταντίνος", "Αικατερίνη")
_EXAMINATIONS: Final = (
    ("CT", "CT ΘΩΡΑΚΟΣ ΑΝΩ ΚΟΙΛΙΑΣ", "CHEST", ("Scout", "Axial 1.25 mm Lung")),
    ("MR", "MRI ΕΓΚΕΦΑΛΟΥ", "BRAIN", ("t2_tse_tra_448", "ep2d_diff_3scan_trace")),
)
_Study = list[tuple[str, str, bytes]]
"""The SOP class, the instance UID and the data set of each instance."""
_Words = dict[tuple[int, bytes], str]


class Hospital:
    """Makes up studies; the same ones each time."""

    def __init__(self) -> None:
        self._source = random.Random(12)  # noqa: S311 - words, not keys

    def uid(self) -> str:
        """A UID as modalities make them: root, model, serial number, moment, counter."""
        digits = self._source.randrange(10**9, 10**10)
        counter = self._source.randrange(10**4, 10**6)
        return f"1.2.392.200036.9116.2.6.1.48.{digits}.17{digits % 10**8:08d}.{counter}"

    def study(self, pixels_bytes: int, count: int, series: int) -> _Study:
        """The SOP classes, instance UIDs and data sets of one study."""
        choose, number = self._source.choice, self._source.randrange(10**6)
        modality, examination, part, descriptions = choose(_EXAMINATIONS)
        date = f"20{self._source.randrange(15, 27)}{self._source.randrange(1, 13):02d}17"
        words: _Words = {
            (0x0008_0005, b"CS"): "ISO_IR 192",
            (0x0008_0020, b"DA"): date,
            (0x0008_0021, b"DA"): date,
            (0x0008_0022, b"DA"): date,
            (0x0008_0023, b"DA"): date,
            (0x0008_0030, b"TM"): "101530.125000",
            (0x0008_0050, b"SH"): f"RIS{number:08d}",
            (0x0008_0060, b"CS"): modality,
            (0x0008_0070, b"LO"): "MANUFACTURER MEDICAL SYSTEMS",
            (0x0008_0080, b"LO"): "ΓΕΝΙΚΟ ΝΟΣΟΚΟΜΕΙΟ ΠΑΡΑΔΕΙΓΜΑΤΟΣ",
            (0x0008_0090, b"PN"): f"{choose(_SURNAMES)}^{choose(_GIVEN)}",
            (0x0008_1010, b"SH"): f"{modality}01-ROOM2",
            (0x0008_1030, b"LO"): examination,
            (0x0008_1050, b"PN"): f"{choose(_SURNAMES)}^{choose(_GIVEN)}",
            (0x0008_1090, b"LO"): "Example Scanner 64",
            (0x0010_0010, b"PN"): f"{choose(_SURNAMES)}^{choose(_GIVEN)}^{number}",
            (0x0010_0020, b"LO"): f"PID{number:07d}",
            (0x0010_0030, b"DA"): "19610423",
            (0x0010_0040, b"CS"): choose("MF"),
            (0x0010_1010, b"AS"): "063Y",
            (0x0010_1020, b"DS"): "1.75",
            (0x0010_1030, b"DS"): "82",
            (0x0018_0015, b"CS"): part,
            (0x0018_1030, b"LO"): f"6.1 {examination}",
            (0x0020_000D, b"UI"): self.uid(),
            (0x0020_0010, b"SH"): str(number),
        }
        sop_class = houses.CT if modality == "CT" else _MR
        made: _Study = []
        for each in range(count):
            if not each % (count // series):
                place = each * series // count
                words[0x0020_000E, b"UI"] = self.uid()
                words[0x0020_0011, b"IS"] = str(place + 2)
                words[0x0008_0031, b"TM"] = f"1017{place:02d}.410000"
                words[0x0008_103E, b"LO"] = descriptions[place]
            words |= {
                (0x0008_0008, b"CS"): "ORIGINAL\\PRIMARY\\AXIAL",
                (0x0008_0016, b"UI"): sop_class,
                (0x0008_0018, b"UI"): self.uid(),
                (0x0008_0032, b"TM"): f"1018{each % 60:02d}.250000",
                (0x0008_0033, b"TM"): f"1018{each % 60:02d}.870000",
                (0x0020_0013, b"IS"): str(each + 1),
            }
            data = b"".join(
                houses.element(tag, vr, value.encode())
                for (tag, vr), value in sorted(words.items())
            )
            data += houses.element(0x7FE0_0010, b"OW", self._source.randbytes(pixels_bytes))
            made.append((sop_class, words[0x0008_0018, b"UI"], data))
        return made


class Archive:
    """A hospital's holding, and how many bytes of data sets went into it."""

    def __init__(self, folder: Path) -> None:
        self.house = houses.make_house(folder)
        self.data_sets_bytes = 0

    def store(self, study: _Study) -> None:
        """Take a study in."""
        syntax = uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN)
        assert syntax is not None
        for sop_class, sop_instance, data in study:
            incoming = self.house.holding.recorder.begin(
                Announced(
                    sop_class_uid=sop_class,
                    sop_instance_uid=sop_instance,
                    transfer_syntax=syntax,
                    origin=_ORIGIN,
                )
            )
            houses.pour(incoming, data)
            incoming.finish()
            self.data_sets_bytes += len(data)
        self.house.clock.advance(_STUDY_EVERY_S)

    def over_raw(self) -> float:
        """How much longer the sealed packs are than the data sets in them, as a fraction."""
        self.house.seal()
        packs_bytes = sum(path.stat().st_size for path in self.house.files("packs/*/p/*/*.tar"))
        return packs_bytes / self.data_sets_bytes - 1


class _Measured(Exception):
    """Everything was dropped to see what it took: take it back."""


def pages(house: houses.House, count: int) -> tuple[float, dict[str, float]]:
    """Bytes of the index per instance, and of each of its tables and indexes."""
    database = house.holding.index.database()
    database._use_up_log(wait=True)  # noqa: SLF001 - as opening it does
    whole = database.path.stat().st_size / count
    found: dict[str, float] = {}
    with suppress(_Measured), database.write() as connection:

        def pragma(name: str) -> int:
            row = connection.execute(f"PRAGMA {name}").fetchone()
            return 0 if row is None else int(row[0])

        pragma("defer_foreign_keys = ON")
        names = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL"
            " AND name NOT LIKE 'sqlite_%' ORDER BY type, name"
        ).fetchall()
        size, free = pragma("page_size"), pragma("freelist_count")
        found["free"] = free * size / count
        for kind, name in names:
            connection.execute(f'DROP {kind} "{name}"')
            freed, free = pragma("freelist_count") - free, pragma("freelist_count")
            found[name] = freed * size / count
        raise _Measured
    largest = sorted(found.items(), key=lambda each: -each[1])
    return round(whole, 1), {name: round(each, 1) for name, each in largest if each >= 1}


def main() -> None:
    """Fill, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--ct", type=int, default=1000)
    options.add_argument("--studies", type=int, default=1000)
    wanted = options.parse_args()
    hospital = Hospital()
    with tempfile.TemporaryDirectory() as name:
        images, small = (Path(name) / each for each in ("ct", "small"))
        for folder in (images, small):
            folder.mkdir()
        ct = Archive(images)
        ct.store(hospital.study(_CT_BYTES, wanted.ct, 1))
        archive = Archive(small)
        for study in range(wanted.studies):
            archive.store(hospital.study(_SMALL_BYTES, _INSTANCES, _SERIES))
            if study % _SEAL_EVERY == _SEAL_EVERY - 1:
                archive.house.seal()
        over_raw = {"CT": ct.over_raw(), "small": archive.over_raw()}
        per_instance, parts = pages(archive.house, wanted.studies * _INSTANCES)
    found = {"pack_over_raw": over_raw, "index_bytes_per_instance": per_instance, "pages": parts}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
