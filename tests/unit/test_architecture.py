"""ARCHITECTURE.md is a map with every module on it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/harmoni"


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        package, *rest = path.relative_to(SOURCE).with_suffix("").parts
        name = rest[-1] if rest else package
        if "migrations" not in path.parts[:-1] and not name.startswith("__"):
            yield package, name


@pytest.mark.parametrize(("package", "module"), list(modules()))
def test_every_module_is_named_with_its_package(package, module):
    entries = re.findall(
        r"^- (`.*?)(?=^- |^## )",
        (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    of_package = [entry for entry in entries if entry.startswith(f"`{package}`")]
    assert any(f"`{module}`" in entry for entry in of_package)


def test_nothing_that_people_or_peers_reach_erases_a_study():
    """Two signatures must stand in front of it first (docs/decisions/0020-erasure.md)."""
    callers = {
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == "erase"
        and path.relative_to(SOURCE).parts[0] not in {"vault", "holdings"}
    }
    assert callers == set()
