"""Telling the service manager how we are (sd_notify, systemd's documented datagram protocol)."""

import os
import socket
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"


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
