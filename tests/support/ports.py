"""Ports for the servers that tests start."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

PORTS = range(20000, 32768)
PORTS_OF_A_PROCESS = 64

_asked = itertools.count()


def free_ports(count: int) -> list[int]:
    """TCP ports that are free on every address and that this process has not used before.

    They are below the ephemeral port range. Each process starts at another port, so that parallel test processes do not
    choose the same one.
    """
    found: list[int] = []
    while len(found) < count:
        port = PORTS[(os.getpid() * PORTS_OF_A_PROCESS + next(_asked)) % len(PORTS)]
        with suppress(OSError), socket.create_server(("", port)):
            found.append(port)
    return found
