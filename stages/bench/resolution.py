"""One tower's weights shown squares, NaFlex and tiles: tokens, encoder time, padding."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_shards.bench.result import Result

PATCH, PATCHES = 16, 256
SIDE = 256  # pixels: as many patches in a square
CLOSE, PADDED = 1e-5, 1.3
BATCH = 20
TOWER = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4,
         "num_attention_heads": 3, "patch_size": PATCH}  # fmt: skip


class Scheme(NamedTuple):
    """An encoder, and how much of what it sees is no picture."""

    name: str
    encoder: Any
    config: dict[str, Any]


def run(folder: Path, small: bool = False) -> Result:
    """Show web-like pictures to a SigLIP2 tower in three ways, and to transformers' own class.

    Asked is that plans and features are those of the authors' code, and that packed images spare
    CPU time against transformers' NaFlex, which pads to the budget, masks, and resizes the table
    of positions image by image. Preprocessing is not timed. These two take turns, after both ran
    once; the others run once.

    Args:
        folder: unused.
        small: a tenth of the pictures.
    """
    import torch

    torch.manual_seed(0)
    sizes = web_sizes(12 if small else 100)
    pictures = [_picture(size, seed) for seed, size in enumerate(sizes)]
    schemes = _schemes()
    rows, mismatches = [], 0
    inputs: dict[str, list[Any]] = {}
    for scheme in schemes:
        items = [type(scheme.encoder).preprocess(scheme.config, p) for p in pictures]
        mismatches += _planned_otherwise(scheme, sizes, items)
        inputs[scheme.name] = items
    naflex = schemes[1]
    own, padded = inputs[naflex.name], [_padded(naflex.config, p) for p in pictures]
    off = _off_by(naflex.encoder, own, padded)
    once = [scheme.name for scheme in schemes if scheme is not naflex]
    seconds: dict[str, list[float]] = {name: [] for name in (*inputs, "padded")}
    with torch.inference_mode():
        for turn in range(2 if small else 4):
            for scheme in schemes:
                if not turn or scheme.name not in once:
                    work = partial(_encode, scheme.encoder, inputs[scheme.name])
                    seconds[scheme.name].append(_timed(work))
            seconds["padded"].append(_timed(partial(_encode_padded, naflex.encoder.model, padded)))
    for scheme in schemes:
        cells = [_cells(scheme, item) for item in inputs[scheme.name]]
        rows.append(_row(scheme.name, cells, np.median(seconds[scheme.name]),
                         _empty(scheme, sizes), sizes))  # fmt: skip
    real = sum(_cells(naflex, item) for item in own)
    encoded = sum(len(batch[0]) for batch in _batches(naflex.encoder, own))
    empty = 1 - real / (PATCHES * len(sizes))
    rows.append(_row("naflex of transformers", [PATCHES] * len(sizes),
                     np.median(seconds["padded"]), empty, sizes))  # fmt: skip
    ratio = float(np.median(np.array(seconds["padded"]) / np.array(seconds[naflex.name])))
    figures = {
        "mismatches": mismatches, "padding": round(1 - real / encoded, 3),
        "vs_padded": round(ratio, 2),
        "padding_of_padded": rows[-1]["padding"], "features_off_by": float(f"{off:.1e}"),
        "images": len(sizes),
    }  # fmt: skip
    same = not mismatches and off <= CLOSE and real == encoded
    return Result(same and ratio >= PADDED, figures, rows)


def web_sizes(count: int) -> list[tuple[int, int]]:
    """Return (width, height) as the web has them: half of them common shapes, 100 to 4,000 wide."""
    rng = np.random.default_rng(0)
    shapes = np.array([1, 4 / 3, 3 / 2, 16 / 9, 3 / 4, 2 / 3, 9 / 16])
    ratio = np.where(rng.random(count) < 0.5, rng.choice(shapes, count),
                     np.exp(rng.normal(0.1, 0.45, count)))  # fmt: skip
    width = np.clip(np.exp(rng.normal(6.4, 0.7, count)), 100, 4000)
    sides = np.stack([width, np.clip(width / ratio, 60, 4000)], axis=1).round().astype(int)
    return [(w, h) for w, h in sides.tolist()]


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(size)


def _schemes() -> list[Scheme]:
    """Build the three encoders with the same weights, which NaFlex's tower has as a matrix."""
    import torch

    from omni.encoders import build_encoder, encoder_class

    def build(kind: str, **options: Any) -> Any:
        described = {"kind": kind, **encoder_class({"kind": kind}).describe(None, **options)}
        return build_encoder(described).eval(), described

    naflex, config = build("naflex", model_config={**TOWER, "num_patches": PATCHES},
                           max_patches=PATCHES)  # fmt: skip
    with torch.no_grad():
        for parameter in naflex.parameters():  # positions matter, and what attention looks at
            parameter.normal_(std=0.06)
    state = naflex.model.state_dict()
    name = "embeddings.patch_embedding.weight"
    [key] = [key for key in state if key.endswith(name)]
    kernel = state[key].view(-1, PATCH, PATCH, 3).permute(0, 3, 1, 2)  # (D, ph * pw * 3)
    model = {**TOWER, "model_type": "siglip_vision_model", "image_size": SIDE,
             "vision_use_head": False}  # fmt: skip
    found = [Scheme("naflex, packed", naflex, config)]
    for title, resize in (("fixed, letterbox", "letterbox"), ("tiles", {"by": "tiles", "most": 4})):
        fixed, described = build("transformers", model_config=model, resize=resize)
        fixed.model.load_state_dict(state | {key: kernel})
        found.append(Scheme(title, fixed, described))
    return [found[1], found[0], found[2]]


def _cells(scheme: Scheme, item: dict[str, Any]) -> int:
    grids = type(scheme.encoder).grids(scheme.config, item)
    return sum(rows * columns for rows, columns in grids)


def _planned_otherwise(scheme: Scheme, sizes: list[tuple[int, int]], items: list[Any]) -> int:
    """Count the pictures whose cells the plan does not know from their sizes."""
    facts = np.zeros(len(sizes), [("width", "<i8"), ("height", "<i8")])
    facts["width"], facts["height"] = np.array(sizes).T
    of, grids = type(scheme.encoder).grids_of(scheme.config, facts)
    planned = np.bincount(of, grids.prod(axis=1), len(sizes))
    return int((planned != [_cells(scheme, item) for item in items]).sum())


def _empty(scheme: Scheme, sizes: list[tuple[int, int]]) -> float:
    """Return the share of what the encoder sees that is no picture, all of it at once aside."""
    shown = filled = 0.0
    for size in sizes:
        place = type(scheme.encoder).place(scheme.config, *size)
        shown += place.shown[0] * place.shown[1]
        filled += size[0] * place.scale[0] * size[1] * place.scale[1]
    return 1 - filled / shown


def _batches(encoder: Any, items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), BATCH):
        batch = type(encoder).collate(items[start : start + BATCH])
        yield [batch[name] for name in encoder.inputs]


def _encode(encoder: Any, items: list[Any]) -> list[Any]:
    return [one for batch in _batches(encoder, items) for one in encoder(*batch).items()]


def _padded(config: dict[str, Any], picture: Image.Image) -> dict[str, Any]:
    from omni.encoders.resize import image_processor

    processor = image_processor(json.dumps(config["processor"]))
    return dict(processor(images=picture, return_tensors="pt"))


def _encode_padded(model: Any, items: list[Any]) -> list[Any]:
    """Run transformers' own forward on padded batches; return each picture's own patches."""
    import torch

    found = []
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        batch = {name: torch.cat([item[name] for item in some]) for name in some[0]}
        hidden = model(**batch).last_hidden_state
        found += [one[: rows * columns] for one, (rows, columns) in
                  zip(hidden, batch["spatial_shapes"].tolist(), strict=True)]  # fmt: skip
    return found


def _off_by(encoder: Any, own: list[Any], padded: list[Any]) -> float:
    """Return by how much features differ at most, of the largest."""
    import torch

    with torch.inference_mode():
        ours, theirs = _encode(encoder, own), _encode_padded(encoder.model, padded)
    most = max(float(one.abs().max()) for one in theirs)
    pairs = zip(ours, theirs, strict=True)
    return max(float((a.flatten(0, 1) - b).abs().max()) for a, b in pairs) / most


def _timed(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _row(
    name: str, cells: list[int], seconds: Any, padding: float, sizes: list[tuple[int, int]]
) -> dict[str, Any]:
    return {
        "scheme": name, "patches": f"{np.mean(cells):.0f}", "most": max(cells),
        "encoder CPU-ms": f"{1000 * float(seconds) / len(sizes):.1f}", "padding": round(padding, 3),
    }  # fmt: skip
