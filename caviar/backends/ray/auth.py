"""Checks before Ray connects to a cluster: its address answers, and it accepts this process's token.

Ray itself tries for twenty seconds to reach a cluster that is not there or asks for a token, and then reports only that
it failed. These checks take a moment.
"""

import os
import socket
from pathlib import Path

from caviar.errors import ClusterError

CONNECT_TIMEOUT_S = 5.0
"""Seconds that a cluster may take to accept a connection."""
HEAD_TIMEOUT_S = 20.0
"""Seconds that a busy head may take to reply; Ray waits as long."""
PROBE_METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""gRPC method of the head that shows whether it accepts a token."""
NOT_A_HEAD = ("UNAVAILABLE", "UNIMPLEMENTED", "DEADLINE_EXCEEDED")
"""gRPC status codes of a server that is not the head of a Ray cluster or does not reply."""
TOKEN_HINT = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that of the cluster, "
    "which `ray get-auth-token` prints there"
)


def require_answer(address: str) -> None:
    """Require that a process listens at the address.

    Raises:
        ClusterError: the address is malformed, or nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"--address {address}: use local, auto or HOST:PORT (the port of the head, usually 6379)"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}): "
            "check the address, and that `ray start --head` runs there"
        ) from error


def require_access(address: str) -> None:
    """Require that the head of a cluster replies and accepts this process's token, if it asks for one.

    Clusters that use TLS and all other replies are left to Ray.

    Raises:
        ClusterError: no head replies, or it asks for another token.
    """
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    token = read_token() if os.environ["RAY_AUTH_MODE"] == "token" else None
    metadata = [("authorization", f"Bearer {token}")] if token else []
    no_proxy = [("grpc.enable_http_proxy", 0)]  # Ray uses none either
    with grpc.insecure_channel(address, no_proxy) as channel:
        try:
            channel.unary_unary(PROBE_METHOD)(b"", timeout=HEAD_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise token_error(address, has_token=token is not None) from None
            if error.code().name in NOT_A_HEAD:
                raise ClusterError(
                    f"what answers at {address} is not the head of a Ray cluster ({error.code().name}): "
                    "use the address that `ray start --head` prints (its port is usually 6379)"
                ) from None


def token_error(address: str, *, has_token: bool) -> ClusterError:
    """Return the error of a cluster that refuses access.

    Args:
        address: address of the head, or URL of the dashboard.
        has_token: True if a token was sent.
    """
    refusal = "does not accept this token" if has_token else "asks for a token"
    return ClusterError(f"the Ray cluster at {address} {refusal}: {TOKEN_HINT}")


def read_token() -> str | None:
    """Return the token that Ray will use: from the environment, from the file it names, or from the user's file."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
