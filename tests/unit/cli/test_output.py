"""What is printed for machines is JSON, and for people what stands in the values."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from harmoni.cli import output
from harmoni.config import DestinationSection
from harmoni.model.identifiers import HospitalId


class Colour(StrEnum):
    AMBER = "amber"


@dataclass(frozen=True)
class Thing:
    hospital: HospitalId
    place: Path
    digest: bytes
    colour: Colour
    counts: MappingProxyType
    missing: None = None


THING = Thing(
    HospitalId("hospital-a"), Path("/data"), b"\x01\xff", Colour.AMBER, MappingProxyType({"a": 1})
)
AS_JSON = {
    "hospital": "hospital-a",
    "place": "/data",
    "digest": "01ff",
    "colour": "amber",
    "counts": {"a": 1},
    "missing": None,
}


def test_json_is_one_line_that_any_program_reads(capsys):
    output.facts(THING, json_wanted=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == AS_JSON


def test_rows_as_json_are_an_array_even_when_there_are_none(capsys):
    output.rows([], json_wanted=True, empty="nothing")
    assert capsys.readouterr().out == "[]\n"


def test_settings_are_plain_values():
    section = DestinationSection(ae_title="PACS", host="localhost", port=104)
    assert output.plain(section) == {"ae_title": "PACS", "host": "localhost", "port": 104}


def test_people_read_a_line_per_fact(capsys):
    output.facts(THING, json_wanted=False)
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [
        ["hospital", "hospital-a"],
        ["place", "/data"],
        ["digest", "01ff"],
        ["colour", "amber"],
        ["counts", "a", "1"],
        ["missing", "-"],
    ]


def test_a_key_stands_whole_on_a_line_of_its_own(capsys):
    key = "age1pq1" + "q" * 1952
    output.facts({"id": "h-1", "recovery_recipient": key, "name": "One"}, json_wanted=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["id", "h-1"],
        ["name", "One"],
        [],
        ["recovery", "recipient"],
        [key],
    ]


def test_people_are_told_when_there_is_nothing(capsys):
    output.rows([], json_wanted=False, empty="no study matches")
    assert capsys.readouterr().out == "no study matches\n"


def test_markup_in_a_value_is_shown_and_not_obeyed(capsys):
    output.rows([{"name": "[red]x[/red]"}], json_wanted=False, empty="")
    assert "[red]x[/red]" in capsys.readouterr().out


def test_a_complaint_is_one_line(capsys):
    output.complain("first\nsecond")
    assert capsys.readouterr().err == "harmoni: first second\n"


def test_of_a_long_list_each_has_a_line_of_its_own(capsys):
    packs = [f"pack {number}: this is not a whole sealed pack; use another" for number in range(9)]
    output.facts({"packs": 9, "unreadable": packs}, json_wanted=False)
    assert capsys.readouterr().out.split("\n\nunreadable\n")[1].splitlines() == packs
