"""What answers to a prompt become: samples to train on, or pairs with the real answer."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_shards.shards.sample import Sample
from data_shards.sources.base import facts
from omni.processing.messages import Message, assistant, fill, media_refs

SOURCE = "sample"


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
    prompt: Prompt, answers: Sequence[Answer], pairs: str, skipped: dict[str, str]
) -> list[Sample]:
    """Return a sample for each answer, with the media of its prompt.

    With `pairs` "spin" it is a preference (arXiv 2401.01335): the real answer is chosen, the own
    one rejected. One that equals the real answer, but for space around it, says nothing and makes
    none; a prompt without a real answer is named in `skipped`.
    """
    if pairs and not prompt.real:
        skipped[prompt.name] = "it has no real answer to set the own ones against"
        return []
    if pairs and any(True for _ in media_refs(prompt.real)):
        skipped[prompt.name] = "its real answer has media, which the own ones cannot"
        return []
    return [*_samples(prompt, answers, pairs)]


def _samples(prompt: Prompt, answers: Sequence[Answer], pairs: str) -> Iterator[Sample]:
    meta, shown = prompt.sample.meta, {ref for _, ref in media_refs(prompt.messages)}
    licence, source = str(meta.get("license", "unknown")), str(meta.get("source", "unknown"))
    parts = {name: data for name, data in prompt.sample.parts.items() if name in shown}
    for number, answer in enumerate(answers):
        more = {"prompt": prompt.name, "number": number, "finish": answer.finish}
        if "identity" in meta:
            more["identity"] = meta["identity"]
        about = facts(SOURCE, licence, "preference" if pairs else "sampled", of=source, **more)
        own = assistant(answer.text)
        if not pairs:
            yield Sample([*prompt.messages, own], parts, about)
        elif not equal(prompt.real, answer):
            yield Sample(prompt.messages, parts, about, chosen=prompt.real, rejected=[own])


def equal(real: Sequence[Message], own: Answer) -> bool:
    """Whether both say the same; the text of an own answer has no space around it."""
    said = [part.get("text") for message in real for part in message["content"]]
    return len(real) == 1 and said.count(None) == 0 and "".join(said).strip() == own.text
