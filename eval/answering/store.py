"""Answers on disk: appended batch by batch, and found again only for the same question."""

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from omni.files.jsonl import append_lines, read_lines

from .ranks import Ranks
from .reply import Reply


class AnswerStore:
    """What one model answered, by the digest of the question; without a folder, in memory.

    Every rank appends to a file of its own in `folder` and reads those of all, whatever their
    number. Lines are on the disk when `add` returns; one that a kill tore is passed over.

    Args:
        folder: of the files; other models may keep theirs in the same.
        of: digest of the model and of everything else, apart from the question, that decides
            its answers. Lines of another are not read.
        ranks: who opens this folder together.
    """

    def __init__(self, folder: Path | None = None, of: str = "", ranks: Ranks = Ranks()):  # noqa: B008
        self.of = of
        self.answers: dict[str, Reply] = {}
        self._file = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.glob("*.jsonl")):
            self._read(file)
        ranks.gather(None)  # nobody writes before all have read, so all know the same
        self._file = folder / f"rank{ranks.rank}.jsonl"

    def __contains__(self, question: str) -> bool:
        return question in self.answers

    def __getitem__(self, question: str) -> Reply:
        return self.answers[question]

    def add(self, answers: Mapping[str, str]) -> None:
        """Keep a batch of answers by question; a plain text is one that ended by itself."""
        found = {q: a if isinstance(a, Reply) else Reply(a) for q, a in answers.items()}
        self.answers |= found
        if self._file is None or not answers:
            return
        rows = (
            {"of": self.of, "question": q, "answer": a, "finish": a.finish, "remark": a.remark}
            | ({"thinking": a.thinking} if a.thinking else {})
            for q, a in found.items()
        )
        append_lines(self._file, rows)

    def _read(self, file: Path) -> None:
        for row in read_lines(file):
            if row.get("of") == self.of and row.keys() >= {"question", "answer"}:
                how = (str(row.get("finish", "stop")), str(row.get("remark", "")),
                       int(row.get("thinking", 0)))  # fmt: skip
                self.answers[str(row["question"])] = Reply(str(row["answer"]), *how)


def digest(*facts: Any) -> str:
    """Digest of anything json can tell."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def code_digest(*folders: Path) -> str:
    """Digest of the Python sources that make tensors of words and pictures."""
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def omni_digest() -> str:
    """Digest of the sources of the package omni."""
    return code_digest(Path(str(resources.files("omni"))))


def settings_digest(model: Any, *more: Any) -> str:
    """Digest of what decides the answers beside weights and questions.

    The code of ours, the version of transformers, the model's configuration wherever it lies, how
    it generates; and `more`: what makes tensors of words and pictures.
    """
    import transformers

    return digest(
        omni_digest(),
        transformers.__version__,
        _without_places(model.config.to_dict()),
        model.generation_config.to_dict(),
        *more,
    )


def _without_places(config: Any) -> Any:
    """Leave out where a configuration was read from; a copy of a checkpoint answers the same."""
    if not isinstance(config, dict):
        return config
    return {k: _without_places(v) for k, v in config.items() if k != "_name_or_path"}


def weights_fingerprint(model: Any) -> str:
    """Digest of every parameter and buffer, names and dtypes included; about 0.1 s per GB.

    XXH3 with 128 bits: it tells weights apart that nobody chose to look alike, at ten times the
    speed of a cryptographic hash, which every start would wait for.
    """
    import torch
    import xxhash

    whole = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        whole.update(flat.numpy().data)
    return whole.hexdigest()
