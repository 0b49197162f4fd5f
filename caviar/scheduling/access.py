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
PROBE = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What is asked of a cluster's head to see whether it lets us in."""
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
    """Whether the cluster wants a token that we do not have; any other answer is left to Ray.

    Raises:
        ClusterError: it does.
    """
    import grpc

    ours = token() if os.environ["RAY_AUTH_MODE"] == "token" else None
    metadata = [("authorization", f"Bearer {ours}")] if ours else []
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(PROBE)(b"", timeout=ANSWER_S, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                return
            if ours:
                raise ClusterError(
                    f"the Ray cluster at {address} does not accept our token: {HOW_TO_PASS_A_TOKEN}"
                ) from None
            raise ClusterError(
                f"the Ray cluster at {address} asks for a token: {HOW_TO_PASS_A_TOKEN}"
            ) from None


def token() -> str | None:
    """The token that Ray would use: from the environment, a file that it names, or the user's own file."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
