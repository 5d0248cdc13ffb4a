"""Refuse what must never be tracked: machine paths, download addresses, private keys.

Run by `make check`. Standard library only, so that it also runs before anything is installed.
"""

import re
import subprocess
import sys
from pathlib import Path

# Assembled from parts, so that this file does not match itself.
FORBIDDEN = {
    "an address to download packages from": re.compile(
        "--(extra-)?" + "index-url|--find-" + "links |/sim" + 'ple/|"resolved": *"http'
    ),
    "a private key": re.compile("-----BEGIN [A-Z ]*PRI" + "VATE KEY-----"),
    "a home directory": re.compile("/home/" + r"\w+/|/root/" + r"\w"),
}
LOCK_LINE = re.compile(
    r"^(#.*|\s+#.*|\s*|[a-z0-9._-]+==\S+ \\|\s+--hash=sha256:[0-9a-f]{64}( \\)?)$"
)


def main() -> int:
    """Print every offence; exit 1 if there is one."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    offences = []
    for name in filter(None, listed.stdout.split("\0")):
        path = Path(name)
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            offences += [
                f"{name}:{number}: {what}"
                for what, pattern in FORBIDDEN.items()
                if pattern.search(line)
            ]
            if name == "requirements.lock" and not LOCK_LINE.match(line):
                offences.append(f"{name}:{number}: neither a pin nor a hash: {line!r}")
    print("\n".join(offences) if offences else "tree: clean")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
