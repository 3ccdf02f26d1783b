"""One function per foreign checkpoint format: (file, folder) -> a safetensors folder."""

import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ENGLISH = 51_864  # tokens of a Whisper that knows English alone


def keep_file(file: Path, folder: Path) -> None:
    """Take a file as it is."""
    shutil.copy(file, folder)


def convert_pickled(files: Sequence[Path], folder: Path) -> None:
    """Write tensors that `torch.save` wrote, into one file or several, and what lies beside them.

    Raises:
        ValueError: a file holds more than tensors.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            tensors |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zipfile and torch raise many types
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{file}: cannot be read as tensors alone ({reason})") from error
    if others := [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(f"{files[0]}: cannot be read as tensors alone ({others[0]!r} is none)")
    # clones: tensors that share memory cannot be written
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, folder / "model.safetensors")
    for file in files[0].parent.iterdir():
        if file.is_file() and file.suffix != ".bin" and not file.name.endswith(".index.json"):
            keep_file(file, folder)


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF language model; tokenizer and chat template come along."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    # Saving the loaded model itself fails: it remembers that it was quantised and the weight
    # conversions to revert. A fresh model of a config without that memory has none of it.
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config
    model = type(loaded)(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def convert_efficientnet_lite(file: Path, folder: Path) -> None:
    """Rename the original lite implementation's keys to timm's `tf_efficientnet_lite0` to 4.

    Both list the same tensors in the same order, so they are paired by order and shape; which of
    them it is, the file's name says: `efficientnet-lite2-9656183e.pth`.
    """
    import timm

    source = torch.load(file, map_location="cpu", weights_only=True)
    architecture = f"tf_efficientnet_{file.name.split('-')[1]}"
    model = timm.create_model(architecture)
    target = model.state_dict()
    if len(source) != len(target):
        raise ValueError(f"{file.name}: {len(source)} tensors, timm expects {len(target)}")
    renamed = {}
    for (old, value), (new, like) in zip(source.items(), target.items(), strict=True):
        if value.shape != like.shape:
            raise ValueError(f"{old} {tuple(value.shape)} does not fit {new} {tuple(like.shape)}")
        renamed[new] = value.contiguous()
    save_file(renamed, folder / "model.safetensors")
    config = {
        "architecture": architecture,
        "num_classes": 1000,
        # the original preprocessing is (x - 127) / 128 on 0..255
        "pretrained_cfg": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3,
                           "input_size": [3, 256, 256]},  # what they are shown here by default
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def convert_ctranslate2_whisper(file: Path, folder: Path) -> None:
    """Map a CTranslate2 Whisper (binary version 6) onto WhisperForConditionalGeneration."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tensors = _read_ctranslate2(file)
    vocabulary, width = tensors["decoder/embeddings/weight"].shape
    end = 50256 if vocabulary == ENGLISH else 50257  # <|endoftext|>; <|startoftranscript|> is next
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=width, num_mel_bins=tensors["encoder/conv1/weight"].shape[1],
        encoder_layers=_layers(tensors, "encoder"), decoder_layers=_layers(tensors, "decoder"),
        encoder_attention_heads=width // 64, decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, max_source_positions=1500,
        max_target_positions=448, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        decoder_start_token_id=end + 1,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    state = _whisper_state(tensors, config.encoder_layers, config.decoder_layers)
    missing, unexpected = model.load_state_dict(state, strict=False)
    # proj_out is tied to the token embedding; a k projection has no bias
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise ValueError(f"{file.name}: missing {missing}, unexpected {unexpected}")
    model.save_pretrained(folder)


def _read_ctranslate2(file: Path) -> dict[str, torch.Tensor]:
    """Parse the binary: header, then (name, rank, dims, type, bytes, data) per tensor."""
    types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    with file.open("rb") as stream:

        def number(code: str) -> int:
            return struct.unpack(f"<{code}", stream.read(struct.calcsize(code)))[0]

        def string() -> str:
            return stream.read(number("H")).rstrip(b"\0").decode()

        version, spec, _revision, count = number("I"), string(), number("I"), number("I")
        if version != 6 or "Whisper" not in spec:
            raise ValueError(f"{file.name}: CTranslate2 binary version {version} of {spec}")
        tensors = {}
        for _ in range(count):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = number("B"), number("I")
            data = np.frombuffer(stream.read(size), types[kind]).reshape(shape)
            tensors[name] = torch.from_numpy(data.astype(np.float32))
        return tensors


def _layers(tensors: dict[str, torch.Tensor], side: str) -> int:
    return len({name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_")} -
               {"layer_norm"})  # fmt: skip


def _whisper_state(
    tensors: dict[str, torch.Tensor], encoder_layers: int, decoder_layers: int
) -> dict[str, torch.Tensor]:
    """Rename to transformers' keys; q, k and v are stacked in the self-attention's first linear."""
    state: dict[str, torch.Tensor] = {}

    def put(new: str, old: str) -> None:
        state[f"model.{new}.weight"] = tensors.get(f"{old}/weight", tensors.get(f"{old}/gamma"))  # type: ignore[assignment]
        bias = tensors.get(f"{old}/bias", tensors.get(f"{old}/beta"))
        if bias is not None:
            state[f"model.{new}.bias"] = bias

    def split(new: str, names: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        for name, w, b in zip(names, weight.chunk(len(names)), bias.chunk(len(names)), strict=True):
            state[f"model.{new}.{name}_proj.weight"] = w
            if name != "k":
                state[f"model.{new}.{name}_proj.bias"] = b

    def attention(new: str, old: str, cross: bool) -> None:
        def linear(i: int) -> tuple[torch.Tensor, torch.Tensor]:
            return tensors[f"{old}/linear_{i}/weight"], tensors[f"{old}/linear_{i}/bias"]

        if cross:
            split(new, "q", *linear(0))
            split(new, "kv", *linear(1))
        else:
            split(new, "qkv", *linear(0))
        put(f"{new}.out_proj", f"{old}/linear_{2 if cross else 1}")
        put(f"{new}_layer_norm", f"{old}/layer_norm")

    for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        for i in range(layers):
            new, old = f"{side}.layers.{i}", f"{side}/layer_{i}"
            attention(f"{new}.self_attn", f"{old}/self_attention", cross=False)
            if side == "decoder":
                attention(f"{new}.encoder_attn", f"{old}/attention", cross=True)
            put(f"{new}.final_layer_norm", f"{old}/ffn/layer_norm")
            put(f"{new}.fc1", f"{old}/ffn/linear_0")
            put(f"{new}.fc2", f"{old}/ffn/linear_1")
        put(f"{side}.layer_norm", f"{side}/layer_norm")
        positions = tensors[f"{side}/position_encodings/encodings"]
        state[f"model.{side}.embed_positions.weight"] = positions
    put("encoder.conv1", "encoder/conv1")
    put("encoder.conv2", "encoder/conv2")
    state["model.decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    return state
