"""Stand-in for an agent of Ray that starts the agent some seconds later, or never.

The raylet of a local cluster starts two agents as Python programs, each of which takes a second of a core while the
first workers start. One makes runtime environments, which hardly a trial asks for; the raylet asks again while it does
not answer. The other one serves Ray's dashboard, which is left out.

The raylet runs this file as a program, with the standard library alone. It ends with the raylet.
"""

import os
import socket
import sys
import time

CHECK_S = 0.5
"""Seconds between checks that the raylet is alive."""


def wait(parent: int, delay_s: float) -> bool:
    """Wait while a parent process is alive; return whether it still is. Process 1 adopts what others leave."""
    deadline = time.monotonic() + delay_s
    while os.getppid() == parent != 1 and (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(CHECK_S, left_s))
    return os.getppid() == parent != 1


def reserve(address: str, port: int) -> socket.socket:
    """Return a socket that keeps a port from others; a process that sets SO_REUSEADDR can listen there all the same."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((address, port))
    kept.set_inheritable(True)
    return kept


if __name__ == "__main__":
    raylet = os.getppid()
    delay_s, address, port, *command = sys.argv[1:]
    kept = reserve(address, int(port))
    if wait(raylet, float(delay_s)):
        os.execvp(command[0], command)
