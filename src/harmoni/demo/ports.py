"""Ports of the demo: free ones, remembered so that a resumed demo keeps them."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError
from harmoni.net import server

FILE: Final = "ports.json"
HOST: Final = "127.0.0.1"


def settle(store: Filesystem, ours: Iterable[str], peers: Iterable[str]) -> Mapping[str, int]:
    """Give each name its port: the remembered one, or a free one.

    Args:
        store: rooted at the demo's directory, where the ports are remembered.
        ours: names of ports that the demo's roles listen to; a remembered one that is taken by
            somebody else is given up.
        peers: names of ports that others may listen to, perhaps already; they are never given up.

    Raises:
        ConfigurationError: the remembered ports cannot be read.
    """
    remembered = _read(store)
    kept = {name: remembered[name] for name in peers if name in remembered}
    kept |= {name: port for name in ours if (port := remembered.get(name)) and _is_free(port)}
    missing = [name for name in (*ours, *peers) if name not in kept]
    kept |= dict(zip(missing, _free(len(missing)), strict=True))
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


def _free(count: int) -> list[int]:
    """Ports that nobody listens to now, all different; nothing keeps them but chance."""
    listeners = [server.listen(HOST, 0) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
