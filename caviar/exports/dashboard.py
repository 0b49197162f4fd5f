"""The dashboard of Optuna for one run, on the loopback interface of this machine."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from caviar.errors import RunError
from caviar.optional_packages import packages_of

HOST: Final = "127.0.0.1"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextmanager
def serve_dashboard(study: optuna.Study, port: int) -> Iterator[str]:
    """Serve a study in optuna-dashboard while the context is open, and yield the URL of its page.

    The page follows the study. What is written in it, such as notes, is kept where the study is stored.

    Args:
        study: the study.
        port: TCP port, on the loopback interface; 0 takes a free one.

    Raises:
        MissingPackageError: optuna-dashboard is not installed.
        RunError: the port is taken.
    """
    with packages_of("dashboard"):
        from optuna_dashboard import wsgi
    try:
        server = make_server(HOST, port, _for_this_host(wsgi(study._storage)), _Server, _Handler)
    except OSError as error:
        raise RunError(f"port {port} is taken ({error.strerror}): choose another --port") from error
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/dashboard/studies/{study._study_id}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print no line for each request."""


def _for_this_host(application: Application) -> Application:
    """Refuse requests for other host names: a page elsewhere whose name leads here could read the study."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").rpartition(":")[0] not in (HOST, "localhost"):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"open this page as http://127.0.0.1 or http://localhost\n"]
        return application(environ, start_response)

    return answer
