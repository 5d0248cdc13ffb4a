"""Telling the service manager how we are (sd_notify, systemd's documented datagram protocol)."""

import os
import socket
from typing import Final, Self

_VARIABLE: Final = "NOTIFY_SOCKET"
_MESSAGE_BYTES: Final = 4096


def notify(state: str) -> bool:
    """Send a state to the service manager, if one asked to be told.

    Args:
        state: such as `READY=1`, `STOPPING=1`, `RELOADING=1` or `STATUS=…`.

    Returns:
        Whether it was sent. A manager that is not there or does not listen is no error of ours.
    """
    address = os.environ.get(_VARIABLE, "")
    if not address:
        return False
    if address.startswith("@"):  # the abstract name space of Linux
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        try:
            door.sendto(state.encode(), address)
        except OSError:
            return False
    return True


class Listener:
    """The service manager's side, for whoever starts a role and waits until it is ready.

    Nothing is left in the file system: the address is in Linux's abstract name space.
    """

    def __init__(self) -> None:
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind("")
        self.environment = {_VARIABLE: "@" + self._door.getsockname()[1:].decode()}
        """What the started process needs in its environment."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()

    def hears(self, state: str, timeout_s: float) -> bool:
        """Wait for one message; whether it says that state.

        Args:
            state: such as `READY=1`.
            timeout_s: how long to wait for a message.
        """
        self._door.settimeout(timeout_s)
        try:
            return state in self._door.recv(_MESSAGE_BYTES).decode("utf-8", "replace").split("\n")
        except TimeoutError:
            return False
