"""What answers to a prompt become: samples to train on, or pairs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from data_shards.shards.sample import Sample
from data_shards.sources.base import facts
from omni.processing.messages import Message, assistant, fill, media_refs

from .mined import Judged, choose
from .verdict import is_right

SOURCE = "sample"


class Pairing(NamedTuple):
    """How answers become pairs; `right`, `choice` and `seed` are of `kind` "hard"."""

    kind: str = ""
    right: str = ""
    choice: str = "random"
    seed: int = 0

    @property
    def about(self) -> Any:
        """Return all of it that counts, for a manifest."""
        return self.kind if self.kind != "hard" else self._asdict()


class Prompt(NamedTuple):
    """What is asked: a sample up to its last answer, `real`; `name` is "path:key"."""

    name: str
    messages: list[Message]
    real: list[Message]
    sample: Sample

    def shown(self) -> list[Message]:
        """Return the messages with their media."""
        return fill(self.messages, self.sample.parts)


class Answer(NamedTuple):
    """What a model answered; `finish` as of a `Completion`."""

    text: str
    finish: str


def samples_of(
    prompt: Prompt, answers: Sequence[Answer], pairing: Pairing, skipped: dict[str, str]
) -> list[Sample]:
    """Return a sample for each answer, with the media of its prompt.

    Of kind "spin" it is a preference (arXiv 2401.01335): the real answer is chosen, the own
    one rejected. One that equals the real answer, but for space around it, says nothing and makes
    none; a prompt without a real answer is named in `skipped`.

    Of kind "hard" a prompt makes at most one preference, of a right and a wrong own answer, and
    none where all are the same; its meta has k_correct and k_incorrect.
    """
    pairs = pairing.kind
    if pairs and not prompt.real:
        skipped[prompt.name] = "it has no real answer to set the own ones against"
        return []
    if pairs and any(True for _ in media_refs(prompt.real)):
        skipped[prompt.name] = "its real answer has media, which the own ones cannot"
        return []
    if pairs == "hard":
        try:
            judged = judge(prompt, answers, pairing)
        except ValueError as error:
            skipped[prompt.name] = str(error)
            return []
        return [_hard(prompt, judged, pairing)] if judged.mixed else []
    return [*_samples(prompt, answers, pairs)]


def judge(prompt: Prompt, answers: Sequence[Answer], pairing: Pairing) -> Judged:
    """Part the answers to a prompt into right and wrong ones.

    Raises:
        ValueError: the real answer says nothing of what is compared.
    """
    real = text_of(prompt.real)
    verdicts = [is_right(pairing.right, real, answer.text) for answer in answers]
    found = [[a.text for a, right in zip(answers, verdicts, strict=True) if right == which]
             for which in (True, False)]  # fmt: skip
    return Judged(*found)


def _hard(prompt: Prompt, judged: Judged, pairing: Pairing) -> Sample:
    chosen, rejected = choose(judged, pairing.choice, pairing.seed, prompt.name)
    parts, about = _shared(prompt, "preference")
    about |= {"k_correct": len(judged.right), "k_incorrect": len(judged.wrong)}
    return Sample(prompt.messages, parts, about, chosen=[assistant(chosen)],
                  rejected=[assistant(rejected)])  # fmt: skip


def _shared(prompt: Prompt, kind: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the media of a prompt, and the meta of what its answers become."""
    meta, shown = prompt.sample.meta, {ref for _, ref in media_refs(prompt.messages)}
    licence, source = str(meta.get("license", "unknown")), str(meta.get("source", "unknown"))
    parts = {name: data for name, data in prompt.sample.parts.items() if name in shown}
    more = {"identity": meta["identity"]} if "identity" in meta else {}
    return parts, facts(SOURCE, licence, kind, of=source, prompt=prompt.name, **more)


def _samples(prompt: Prompt, answers: Sequence[Answer], pairs: str) -> Iterator[Sample]:
    parts, shared = _shared(prompt, "preference" if pairs else "sampled")
    for number, answer in enumerate(answers):
        about = shared | {"number": number, "finish": answer.finish}
        own = assistant(answer.text)
        if not pairs:
            yield Sample([*prompt.messages, own], parts, about)
        elif not equal(prompt.real, answer):
            yield Sample(prompt.messages, parts, about, chosen=prompt.real, rejected=[own])


def text_of(messages: Sequence[Message]) -> str:
    """Return the text of an answer."""
    return "".join(part.get("text", "") for m in messages for part in m["content"])


def equal(real: Sequence[Message], own: Answer) -> bool:
    """Whether both say the same; the text of an own answer has no space around it."""
    said = [part.get("text") for message in real for part in message["content"]]
    return len(real) == 1 and said.count(None) == 0 and "".join(said).strip() == own.text
