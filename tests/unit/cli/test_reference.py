"""The generated pages are current."""

from pathlib import Path

import pytest

from harmoni.cli import reference

PAGES = Path(__file__).parents[3] / "docs/reference"


@pytest.mark.parametrize("name", ["commands", "errors"])
def test_a_generated_page_is_current(name):
    """Renew it with: python -m harmoni.cli.reference NAME > docs/reference/NAME.md."""
    made = getattr(reference, name)()
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == made


def test_no_two_errors_share_a_code():
    codes = [kind.code for kind in reference.every_error()]
    assert len(codes) == len(set(codes))


def test_every_error_is_listed():
    page = reference.errors()
    for kind in reference.every_error():
        assert f"| {kind.code} | {kind.__name__} |" in page
