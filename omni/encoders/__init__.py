"""Pretrained encoders. Adding one is one class and one line in ENCODERS.

An encoder is a module that says

* `media`: which part of a message it reads, "image" (frames of videos too) or "audio";
* `options`: what a recipe may set; the first of them stands in for weights where none are named;
* `inputs`: the tensors it takes, in the order of `forward`. Where another modality has such a
  name already, a batch calls it MODALITY_INPUT, see `tensor_names`;
* `host_inputs`: those of them that the host reads, so they stay with it: lengths, grids. They keep
  their dtype; others, if floating-point, come in that of the model;
* `width`: of its features, an attribute of the instance;
* `gives`: "codes" where these are whole numbers, one of each of its `books`; else left out. Such
  a one tells whether it is trained, `started`, and how wide what its codes stand for is,
  `code_width`; where that is None it makes sound of codes itself: `wave(codes)` at `rate`;
* `describe(folder, **options)`: its whole config, plain JSON and the arguments of its constructor,
  from a folder of weights, or from options where that is None;
* `load_pretrained(folder)`: fills itself from safetensors;

and, without weights, so that data can be tokenised alone, where `config` is what `describe` made:

* `frame_seconds(config)`, of audio: how long a frame is;
* `preprocess(config, ref)`: a file's bytes, path, picture or wave -> its `inputs` by name;
* `collate(items)`: those of several files -> those of a batch;
* `split(config, *inputs)`: undoes it: a tuple of inputs for each item, one with a grid of its own;
* `grids(config, tensors)`: the grid of each item of a file or a batch, (frames,) or
  (rows, columns), from its `inputs` by name;
* `grids_of(config, facts)`: the same of many files by their facts alone, an array with the fields
  of `omni.media.facts.Facts`: the file of each item, (G,), and the grids, (G, axes). So data can be
  planned without decoding any;
* `place(config, width, height)`: of those for pictures, where one lies in what is shown of it, for
  boxes: a `boxes.Placement`.

`forward(*inputs)` returns a `Ragged`: the features of all items without padding, and their grids,
which are those of `grids` and lie on the host. An item's features do not depend on its batch.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..entry import EntryError
from ..nearest import nearest
from .audio import WhisperEncoder
from .check import check_encoder
from .codec import CodecEncoder
from .naflex import NaflexEncoder
from .open_clip import OpenClipEncoder
from .qwen2_vl import Qwen2VlEncoder
from .timm import TimmEncoder
from .transformers import TransformersEncoder
from .transformers_audio import TransformersAudioEncoder
from .transformers_codec import TransformersCodec

Modalities = Mapping[str, dict[str, Any]]
"""as `OmniConfig.modalities` has them"""

ENCODERS: dict[str, type[nn.Module]] = {
    "timm": TimmEncoder,
    "open_clip": OpenClipEncoder,
    "transformers": TransformersEncoder,
    "qwen2_vl": Qwen2VlEncoder,
    "naflex": NaflexEncoder,
    "whisper": WhisperEncoder,
    "transformers_audio": TransformersAudioEncoder,
    "codec": CodecEncoder,
    "transformers_codec": TransformersCodec,
}


def encoder_class(config: dict[str, Any]) -> Any:
    """Look up the class that `config["kind"]` names.

    Raises:
        EntryError: the kind is not registered.
    """
    if not isinstance(kind := config.get("kind"), str) or kind not in ENCODERS:
        raise EntryError(f"unknown encoder {kind!r}; {nearest(kind, ENCODERS)}", "encoder", "kind")
    return ENCODERS[kind]


def readers(modalities: Modalities, medium: str) -> Modalities:
    """Return the modalities that read a medium ("image", "audio"), in the order of attachment.

    That is the order of their placeholders' ids: files sort the modalities by name.
    """
    return {n: m for n, m in _in_order(modalities) if encoder_class(m["encoder"]).media == medium}


def codec_of(modalities: Modalities) -> str | None:
    """Return the modality whose encoder gives codes, which a model can speak; None: there is none.

    A model has one of them at most.
    """
    return next((n for n, m in modalities.items() if gives(m["encoder"]) == "codes"), None)


def gives(config: dict[str, Any]) -> str:
    """Return what leaves the encoder of a config: "features", or "codes" of several books."""
    return getattr(encoder_class(config), "gives", "features")


def tensor_names(modalities: Modalities) -> dict[str, dict[str, str]]:
    """Tell what the `inputs` of each modality's encoder are called in a batch.

    As the encoder calls them, or MODALITY_INPUT where one attached before has that name.
    """
    found: dict[str, dict[str, str]] = {}
    taken: set[str] = set()
    for name, modality in _in_order(modalities):
        inputs = encoder_class(modality["encoder"]).inputs
        found[name] = {i: f"{name}_{i}" if i in taken else i for i in inputs}
        taken.update(found[name].values())
    return found


def host_inputs(modalities: Modalities) -> frozenset[str]:
    """Return the tensors of a batch that stay on the host, which alone reads them."""
    names = tensor_names(modalities)
    hosted = {n: encoder_class(m["encoder"]).host_inputs for n, m in modalities.items()}
    return frozenset(names[n][i] for n, inputs in hosted.items() for i in inputs)


def _in_order(modalities: Modalities) -> list[tuple[str, dict[str, Any]]]:
    return sorted(modalities.items(), key=lambda item: item[1]["token_id"])


def build_encoder(config: dict[str, Any]) -> nn.Module:
    """Build the encoder with random weights; `config`, kept as `spec`, holds its arguments."""
    encoder = encoder_class(config)(**{k: v for k, v in config.items() if k != "kind"})
    encoder.spec = config
    return encoder


__all__ = [
    "ENCODERS",
    "build_encoder",
    "check_encoder",
    "codec_of",
    "encoder_class",
    "gives",
    "host_inputs",
    "readers",
    "tensor_names",
]
