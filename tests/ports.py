"""Ports for servers that tests start."""

import random
import socket

_PORTS = range(21_000, 31_000)
"""Below the ports that the system hands out itself, for example to the processes of a starting Ray."""


def free_port() -> int:
    """Return a port that no process listens on at the moment."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
