"""Where the media of a request come from: itself, or what the owner has allowed."""

import base64
import binascii
import ipaddress
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from .refusal import RequestError, short

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+\"-]+)*)(;base64)?,", re.ASCII)
SECONDS = 10.0  # for a remote medium, from the first byte asked to the last one read


@dataclass(frozen=True)
class Sources:
    """Reads the bytes behind a URL; only `data:` unless hosts or folders are allowed.

    Args:
        hosts: names from which http and https URLs are fetched; never by a redirect, and never
            from a private address.
        folders: below which `file:` URLs are read.
        max_bytes: of one medium.
    """

    hosts: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()
    max_bytes: int = 32 << 20

    def read(self, url: str, kind: str, place: str) -> bytes:
        """Return the bytes of a medium.

        Args:
            url: of it.
            kind: image, audio or video.
            place: where it stands in the request, for the error.

        Raises:
            RequestError: it is not allowed, not there, damaged or too large.
        """
        if url[:5].lower() == "data:":
            return self._inline(url, kind, place)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise RequestError(f"not a URL: {error}", place) from error
        if parts.scheme in ("http", "https"):
            return self._remote(parts, port or (443 if parts.scheme == "https" else 80), place)
        if parts.scheme == "file":
            return self._local(parts, place)
        raise RequestError(
            f"a URL must begin with data:, http:, https: or file:, not {short(url[:40])}", place
        )

    def decode(self, text: str, place: str) -> bytes:
        """Decode base64, strictly.

        Raises:
            RequestError: it is none, or too large.
        """
        self._check(len(text) * 3 // 4 - 2, place)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"not valid base64: {error}", place) from error
        self._check(len(data), place)
        return data

    def _check(self, size: int, place: str) -> None:
        if size > self.max_bytes:
            raise RequestError(f"{size:,} bytes is over the limit of {self.max_bytes:,}", place)

    def _inline(self, url: str, kind: str, place: str) -> bytes:
        found = _DATA.match(url[:300])
        if not found or not found[3]:
            raise RequestError("a data URL must begin like data:image/png;base64,", place)
        mime = (found[1] or "").lower()
        if mime and mime.partition("/")[0] not in (kind, "application"):
            raise RequestError(f"the data is {mime}, but the part is {kind}", place)
        return self.decode(url[found.end() :], place)

    def _local(self, parts: SplitResult, place: str) -> bytes:
        # by its name: what the owner linked into an allowed folder may be read
        path = Path(os.path.normpath(unquote(parts.path)))
        inside = any(path.is_relative_to(os.path.abspath(folder)) for folder in self.folders)
        if parts.netloc not in ("", "localhost") or "\0" in str(path) or not inside:
            raise RequestError(
                "local files are read only below folders given to --allow-dir", place
            )
        if not path.is_file():
            raise RequestError("there is no such file", place)
        self._check(path.stat().st_size, place)
        return path.read_bytes()

    def _remote(self, parts: SplitResult, port: int, place: str) -> bytes:
        host = parts.hostname or ""
        if host not in self.hosts:
            allowed = ", ".join(sorted(self.hosts)) or "none"
            raise RequestError(
                f"media are fetched only from hosts given to --allow-host ({allowed})", place
            )
        address = public_address(host, port, place)
        return fetch(parts, address, port, self.max_bytes, place)


def public_address(host: str, port: int, place: str) -> str:
    """Resolve a host, to an address that is nobody's private one.

    Raises:
        RequestError: it has none, or one of its addresses is private.
    """
    try:
        found = [
            str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ]
    except (OSError, UnicodeError) as error:
        raise RequestError(f"the host {short(host)} is not found: {error}", place) from error
    for address in found:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        inner = getattr(parsed, "ipv4_mapped", None) or parsed
        if not inner.is_global or inner.is_multicast:
            raise RequestError(f"the host {short(host)} has a private address", place)
    return found[0]


def fetch(parts: SplitResult, address: str, port: int, max_bytes: int, place: str) -> bytes:
    """Get a URL from the address that was checked, as a second look-up might find another.

    Raises:
        RequestError: it is a redirect, too large, too slow, or not there.
    """
    import httpx

    literal = f"[{address}]" if ":" in address else address
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    ends = time.monotonic() + SECONDS
    data = bytearray()
    try:
        with (
            httpx.Client(trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
            client.stream(
                "GET", f"{parts.scheme}://{literal}:{port}{path}",
                headers={"Host": parts.netloc.rpartition("@")[2]},
                extensions={"sni_hostname": parts.hostname},
            ) as response,
        ):  # fmt: skip
            if response.status_code != 200:
                why = "a redirect, which is not followed" if response.is_redirect else "no medium"
                raise RequestError(f"the host answered {response.status_code}, {why}", place)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > max_bytes:
                    raise RequestError(f"it is over the limit of {max_bytes:,} bytes", place)
                if time.monotonic() > ends:
                    raise RequestError(f"it took more than {SECONDS:g} s", place)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RequestError(f"not fetched: {type(error).__name__}: {error}", place) from error
    return bytes(data)
