"""Whether a cluster lets us in: addresses that answer, and tokens. It is asked before Ray is.

Ray tries for twenty seconds to reach a cluster that is not there or wants a token, and then says only that it
failed. So the port and the token are tried first, which takes a moment.
"""

import os
import socket
from pathlib import Path

from caviar.errors import ClusterError

ANSWER_S = 5.0
"""How long a cluster may take to answer."""
HEAD_S = 20.0
"""How long its head may, which can be busy: Ray waits as long."""
PROBE = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What is asked of a cluster's head to see whether it lets us in."""
NO_HEAD = ("UNAVAILABLE", "UNIMPLEMENTED", "DEADLINE_EXCEEDED")
"""By gRPC's names: it speaks otherwise, has other services, or says nothing."""
HOW_TO_PASS_A_TOKEN = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that of the cluster, "
    "which `ray get-auth-token` prints there"
)


def require_answer(address: str) -> None:
    """Whether anything listens there.

    Raises:
        ClusterError: not an address, or nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"--address {address}: use local, auto or HOST:PORT (the port of the head, usually 6379)"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}): "
            "check the address, and that `ray start --head` runs there"
        ) from error


def require_access(address: str) -> None:
    """Whether the head of a cluster answers there, and does not want a token that we do not have.

    Any other answer is left to Ray, and so is a cluster that encrypts.

    Raises:
        ClusterError: it does not answer, or wants another token.
    """
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    ours = token() if os.environ["RAY_AUTH_MODE"] == "token" else None
    metadata = [("authorization", f"Bearer {ours}")] if ours else []
    direct = [("grpc.enable_http_proxy", 0)]  # as Ray goes there
    with grpc.insecure_channel(address, direct) as channel:
        try:
            channel.unary_unary(PROBE)(b"", timeout=HEAD_S, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise ClusterError(f"{_refused(address, ours)}: {HOW_TO_PASS_A_TOKEN}") from None
            if error.code().name in NO_HEAD:
                raise ClusterError(
                    f"what answers at {address} is not the head of a Ray cluster ({error.code().name}): "
                    "use the address that `ray start --head` prints (its port is usually 6379)"
                ) from None


def _refused(address: str, ours: str | None) -> str:
    if ours:
        return f"the Ray cluster at {address} does not accept our token"
    return f"the Ray cluster at {address} asks for a token"


def token() -> str | None:
    """The token that Ray would use: from the environment, a file that it names, or the user's own file."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
