"""The model card of a checkpoint, and pushing one to a hub that is a folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.repocard import ModelCard
from transformers.utils import hub

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.model.card import card, write_card

PARTS = {
    "text": {"source": "hub:org/llm", "license": "apache-2.0"},
    "vision": {"source": "hub:org/eye", "license": "apache-2.0"},
    "data.captions": {"source": "a | b", "license": "a: cc-by-4.0, b: gpl-2.0"},
}
MODALITIES = {"vision": {"encoder": {"kind": "timm"}, "projector": {"kind": "linear"}}}


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize(("licence", "named"), [
    ("apache-2.0", "apache-2.0"), ("gpl-2.0", "other"), ("MIT, but: not for you", "other"),
])  # fmt: skip
def test_the_card_names_parts_data_licences_stages_and_scores(licence, named):
    parts = PARTS | {"vision": {"source": "hub:org/eye", "license": licence}}
    row = {"name": "category", "score": 78.8, "ci_low": 71.2, "ci_high": 86.5, "n": 104,
           "blind": None, "chance": 35.6}  # fmt: skip
    stage = {"name": "sft", "tokens": 25377, "last_loss": 0.895}
    text = card(
        {"parts": parts, "modalities": MODALITIES},
        [stage],
        [row, row | {"name": "none", "score": None}],
    )
    assert header(text)["license"] == named
    assert header(text)["base_model"] == ["org/llm", "org/eye"]
    for line in (
        "| text | LLM | hub:org/llm | apache-2.0 |",
        f"| vision | encoder timm, projector linear | hub:org/eye | {licence} |",
        "| captions | a \\| b | a: cc-by-4.0, b: gpl-2.0 |",
        "| sft | 25,377 | 0.895 |",
        "| category | 78.8 | 71.2 to 86.5 | 104 | – | 35.6 |",
    ):
        assert line in text.splitlines()
    assert "| none |" not in text
    assert "## Scores" not in card({"parts": parts})


def test_somebody_elses_card_is_left_alone(tmp_path):
    ours = card({"parts": PARTS})
    write_card(tmp_path, ours)
    write_card(tmp_path, card({"parts": PARTS}, [{"name": "sft"}]))
    assert "## Stages" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("# Mine")
    write_card(tmp_path, ours)
    assert (tmp_path / "README.md").read_text() == "# Mine"


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_what_is_pushed_is_what_is_saved(
    way, omni_pair, tiny_checkpoint, tmp_path, monkeypatch, offline
):
    remote = tmp_path / "remote"

    class Hub:
        def create_repo(self, repo_id, **kwargs):
            remote.mkdir(exist_ok=True)
            return SimpleNamespace(repo_id=repo_id)

        def create_commit(self, repo_id, operations, **kwargs):
            assert repo_id == "me/omni"
            for operation in operations:
                shutil.copy(operation.path_or_fileobj, remote / operation.path_in_repo)

    def load(repo_id, **kwargs):
        if not (remote / "README.md").is_file():
            raise EntryNotFoundError("no card")
        return ModelCard((remote / "README.md").read_text())

    monkeypatch.setattr(hub, "_hf_api", Hub())
    monkeypatch.setattr(ModelCard, "load", load)
    for part in omni_pair:
        if way == "push_to_hub":
            part.push_to_hub("me/omni")
        else:
            part.save_pretrained(str(tmp_path / "local"), push_to_hub=True, repo_id="me/omni")
    files, pushed = ({file.name: file.read_bytes() for file in Path(folder).iterdir()}
                     for folder in (tiny_checkpoint, remote))  # fmt: skip
    assert files == pushed
    assert header(pushed["README.md"].decode())["library_name"] == "transformers"
    assert OmniForConditionalGeneration.from_pretrained(remote)
    assert OmniProcessor.from_pretrained(remote)
