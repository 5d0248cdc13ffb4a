"""ARCHITECTURE.md is a map with every module on it."""

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
