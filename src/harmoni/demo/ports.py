"""Ports of the demo: free ones, remembered so that a resumed demo keeps them."""

import itertools
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError
from harmoni.net import server

FILE: Final = "ports.json"
HOST: Final = "127.0.0.1"
_GIVEN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_DYNAMIC: Final = 49152  # RFC 6335, where the system does not tell
_FIRST_UNPRIVILEGED: Final = 1024
_SPAN: Final = 12_000


def settle(store: Filesystem, ours: Iterable[str], peers: Iterable[str]) -> Mapping[str, int]:
    """Give each name its port: the remembered one, or a free one.

    Args:
        store: rooted at the demo's directory, where the ports are remembered.
        ours: names of ports that the demo's roles listen to; a remembered one that is taken by
            somebody else is given up.
        peers: names of ports that others may listen to, perhaps already; they are never given up.

    Raises:
        ConfigurationError: the remembered ports cannot be read, or too few are free.
    """
    remembered = _read(store)
    kept = {name: remembered[name] for name in peers if name in remembered}
    kept |= {name: port for name in ours if (port := remembered.get(name)) and _is_free(port)}
    missing = [name for name in (*ours, *peers) if name not in kept]
    kept |= dict(zip(missing, free(len(missing)), strict=True))
    store.replace(FILE, json.dumps(kept, sort_keys=True).encode())
    return kept


def _read(store: Filesystem) -> Mapping[str, int]:
    if not store.exists(FILE):
        return {}
    try:
        values: object = json.loads(store.read(FILE))
    except ValueError as error:
        raise ConfigurationError(
            f"{store.path(FILE)} is not JSON: {error}; remove it to have ports chosen anew"
        ) from error
    if not isinstance(values, dict):
        return {}
    return {str(name): port for name, port in values.items() if isinstance(port, int)}


def _is_free(port: int) -> bool:
    try:
        server.listen(HOST, port).close()
    except OSError:
        return False
    return True


def free(count: int) -> list[int]:
    """Ports that nobody listens to now, all different; nothing keeps them but chance.

    They lie below those that the system gives to connections and to whoever asks for any port: of
    those one would be taken sooner or later, before the peer listens whose it is.

    Raises:
        ConfigurationError: too few are free.
    """
    end = _first_given()
    candidates = list(range(max(end - _SPAN, _FIRST_UNPRIVILEGED), end))
    # Not the generator that somebody may have seeded: two demos must not choose alike.
    random.SystemRandom().shuffle(candidates)
    found = list(itertools.islice(filter(_is_free, candidates), count))
    if len(found) < count:
        raise ConfigurationError(f"fewer than {count} ports below {end} are free; free some")
    return found


def _first_given() -> int:
    """The lowest port that the system gives to whoever asks for none in particular."""
    try:
        return int(_GIVEN.read_text().split()[0])
    except OSError:
        return _FIRST_DYNAMIC
