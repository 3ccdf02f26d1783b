"""Fetch and unpack a Debian package into the cache, without root."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from omni.files.atomic import put_in_place
from omni.files.lock import exclusive
from omni.weights import cache_dir

from ..base import SourceUnavailable

TIMEOUT = 900


def fetch_package(package: str, say: Callable[[str], None] = print, option: str = "") -> Path:
    """Return the folder that holds the unpacked package, fetching it when it is not cached.

    Args:
        package: its name.
        say: is told when it is fetched.
        option: that takes what was unpacked into DIR, for the error, such as "--path DIR".

    Raises:
        SourceUnavailable: no apt, no network, no space; says what was tried.
    """
    target = cache_dir() / "debian" / package
    if not target.is_dir():
        with exclusive(target):
            if not target.is_dir():
                _fetch(package, target, say, option)
    return target


def _fetch(package: str, target: Path, say: Callable[[str], None], option: str) -> None:
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
            f"To supply it by hand, unpack the package with `dpkg-deb -x FILE.deb {target}`"
            + (f", or into any DIR and pass {option}" if option else "")
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
