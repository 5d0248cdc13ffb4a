"""Follows the shell blocks of a page of docs/how-to to the letter."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs/how-to"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_S = 120


def blocks(name: str) -> list[str]:
    return BLOCK.findall((PAGES / name).read_text(encoding="utf-8"))


def execute(block: str, directory: Path) -> str:
    """Everything that a block printed; a command of it that fails is a failed test."""
    path = f"{os.environ['PATH']}:{Path(sys.executable).parent}"
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", block],
        cwd=directory,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, block + done.stdout + done.stderr
    return done.stdout + done.stderr


def follow(
    name: str, directory: Path, before: Mapping[str, Callable[[], None]] | None = None
) -> str:
    """Execute every block of a page.

    Args:
        name: the page's file.
        directory: where, empty at first.
        before: what happens before the first block that holds a text: the world around the page.
    """
    output, waiting = "", dict(before or {})
    for block in blocks(name):
        for text in [text for text in waiting if text in block]:
            waiting.pop(text)()
        output += execute(block, directory)
    assert not waiting
    return output
