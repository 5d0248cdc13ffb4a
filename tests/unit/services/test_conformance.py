"""The conformance statement says what the program does, where the program can be asked."""

import re
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_description

from harmoni.dicom import uids
from harmoni.dicom.events import DEFAULT_LIMITS
from harmoni.dicom.query import QueryLevel
from harmoni.index import find
from harmoni.services import acceptance
from harmoni.services.retrieve import PENDING_INTERVAL_S

STATEMENT = Path(__file__).parents[3] / "docs/reference/conformance.md"
BELOW = "1.2.840.10008.1.2"


@pytest.fixture(scope="module")
def sections():
    """The text of each section, by its title."""
    _, *sections = STATEMENT.read_text().split("\n## ")
    return dict(section.split("\n", 1) for section in sections)


def test_the_transfer_syntaxes_are_those_that_are_stored(sections):
    named = re.findall(r"`([0-9.]+)`", sections["Storage (C-STORE)"])
    stored = {syntax.uid for syntax in uids.storage_transfer_syntaxes()}
    assert {BELOW + uid if uid.startswith(".") else uid for uid in named} == stored


def test_the_services_are_those_that_are_accepted(sections):
    stated = re.findall(r"\| (1\.2\.[0-9.]+)((?:, \.[0-9])*) \|", sections["Roles"])
    named = {first.removesuffix(".1") + "." for first, others in stated if others}
    assert {first for first, _ in stated} | {
        root + number for root in named for number in "23"
    } == set(acceptance.RIGHT_OF_SERVICE)


@pytest.mark.parametrize("level", QueryLevel)
def test_the_keys_of_a_level_are_those_that_the_index_answers(sections, level):
    (row,) = re.findall(rf"\| {level} \| (.*) \|", sections["Query (C-FIND)"])
    counted = [tag for tag, (at, _) in find._COUNTED.items() if at is level]
    answered = {dictionary_description(tag) for tag in [*find._RAW_TAGS[level], *counted]}
    if level is QueryLevel.IMAGE:
        answered.add(dictionary_description(find.AVAILABLE_TRANSFER_SYNTAX_UID))
    assert set(row.split(", ")) == answered


def test_the_limits_and_intervals_are_those_of_the_program(sections):
    limits = sections["Connections and associations"]
    assert f"{DEFAULT_LIMITS.max_pdu_bytes:,} bytes" in limits
    assert f"every {PENDING_INTERVAL_S:g} s" in sections["Retrieval (C-GET, C-MOVE)"]


def test_our_implementation_is_named(sections):
    assert uids.IMPLEMENTATION_CLASS_UID in sections["Roles"]
    assert uids.IMPLEMENTATION_VERSION_NAME in sections["Roles"]
