"""What a server looks at before it loads a model: its extra, and where it listens."""

import importlib.util
import socket
from collections.abc import Sequence


class StartError(RuntimeError):
    """Why a server cannot start; one line says what to do."""


def check_extra(extra: str, needed: Sequence[str]) -> None:
    """Look for the packages of an extra.

    Raises:
        StartError: names those that are missing, and the command that installs them.
    """
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise StartError(
            f"{', '.join(missing)} not installed; type: uv pip install 'omni-stages[{extra}]', or "
            f"in a checkout: uv pip install -e .[{extra}]"
        )


def bind(host: str, port: int) -> socket.socket:
    """Take an address; port 0 is any free one.

    Raises:
        StartError: it is taken, or no address of this machine.
    """
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(found)
    except OSError as error:
        raise StartError(
            f"cannot listen at {host} port {port}: {error.strerror or error}; choose another port "
            "or address"
        ) from error
    return bound


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket, without a path."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
