"""`python -m caviar` is `caviar`."""

import atexit
import os
import sys
from contextlib import suppress

from caviar.cli.main import main


def run() -> None:
    """Run the `caviar` command as a program, and end the process.

    The exit handlers of its libraries run. Python does not free each of their objects afterwards, which takes a second.
    """
    status = 1

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed before the start
                with suppress(OSError):  # the reader of the output has ended
                    stream.flush()
        os._exit(status)

    atexit.register(leave)  # handlers run in reverse order, so the first one runs last
    try:
        status = main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
        raise


if __name__ == "__main__":
    run()
