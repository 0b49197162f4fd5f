"""Ports for servers that tests start."""

import random
import socket

_OURS = range(21_000, 31_000)
"""Below those that a system gives to whoever asks for any, as the processes of a starting Ray do."""


def free_port() -> int:
    """One that nobody listens on at the moment."""
    while True:
        port = random.choice(_OURS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
