"""Rows of our own definition: recognition on held-out samples, with shuffled controls.

No lmms-eval here. Conditions: "normal" (as it is), "blind" (images removed), "shuffled_images" and
"shuffled_audio" (every medium replaced by one of another identity).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from data_shards.sources.questions import ASK_CATEGORY
from omni.generation.settings import Generation
from omni.processing.messages import image, media_refs, user

from ..answering.answerer import Answerer, Messages
from ..answering.failures import keep_pictures
from ..scoring.right import Outcome, Scored, exact, open_answers
from .heldout import HeldOut, derangement

SEED = 20_240
CONTROLLED = 100  # docs of a row that are also asked blind or shuffled


class MissingDataError(LookupError):
    """A row cannot be made from this data; the text says what is missing and how to get it."""


@dataclass
class Doc:
    """One question with its media in memory. The identities say what may replace each medium."""

    name: str
    messages: Messages
    question: str
    expected: str
    image_identity: str = ""
    audio_identity: str = ""
    category: str = ""  # a figure of its own in the results


@dataclass(frozen=True)
class Own:
    """A row of ours. `docs` makes its questions, `score` turns answers into a figure."""

    name: str
    docs: Callable[[HeldOut], list[Doc]]
    score: Callable[[list[Outcome]], Scored]
    controls: tuple[str, ...]
    max_new_tokens: int
    limit: int | None = None
    how: str = "own"
    chance: Callable[[HeldOut], float] | None = None
    """of all docs, where that of the sampled ones would be another"""
    controlled: int | None = None
    """most docs that are asked under a control"""
    rule: Callable[[HeldOut, list[Outcome]], str] | None = None
    """what a reader of the figure must know of these data, in words"""
    stop: tuple[str, ...] = ("\n\n",)
    """strings that end an answer"""
    against: str = ""
    """the row whose docs of the same units this one is compared with"""

    @property
    def title(self) -> str:
        return self.name

    def with_limit(self, max_new_tokens: int) -> "Own":
        """The same row with other most new tokens."""
        return replace(self, max_new_tokens=max_new_tokens)

    def run(
        self, answerer: Answerer, held: HeldOut, condition: str, limit: int | None, scratch: Path
    ) -> Scored:
        """Ask every doc under one condition; pictures of some that fail go beside `scratch`.

        Raises:
            MissingDataError: no docs, or the condition cannot be made from them.
        """
        docs = self.sample(held, limit)
        if condition != "normal" and self.controlled and len(docs) > self.controlled:
            docs = random.Random(SEED).sample(docs, self.controlled)
        generation = Generation(self.max_new_tokens, self.stop)
        outcomes = self.outcomes(answerer, docs, condition, generation)
        scored = self.score(outcomes)
        if self.chance:
            scored.chance = self.chance(held)
        if self.rule and (rule := self.rule(held, scored.outcomes)):
            scored.details["rule"] = rule
        if condition == "normal":
            messages = {doc.name: doc.messages for doc in docs}
            keep_pictures(
                self.name, scored.outcomes, lambda o: messages[o.doc], scratch.parent
            )  # fmt: skip
        return scored

    def outcomes(
        self, answerer: Answerer, docs: list[Doc], condition: str, generation: Generation
    ) -> list[Outcome]:
        """Ask docs under one condition; an answer is right that is the expected one."""
        texts = answerer(
            apply_condition(docs, condition, SEED), generation,
            names=[f"{self.name}:{doc.name}" for doc in docs],
        )  # fmt: skip
        return [
            Outcome(
                doc.name, doc.question, doc.expected, text, exact(text, doc.expected),
                category=doc.category,
            )
            for doc, text in zip(docs, texts, strict=True)
        ]  # fmt: skip

    def sample(self, held: HeldOut, limit: int | None = None) -> list[Doc]:
        """The docs of this row: all, or a seeded subset of at most its limit."""
        docs = self.docs(held)
        most = min((x for x in (self.limit, limit) if x is not None), default=len(docs))
        if len(docs) > most:
            docs = random.Random(SEED).sample(docs, most)
        return docs

    def count(self, held: HeldOut, limit: int | None) -> int:
        return len(self.sample(held, limit))


def apply_condition(docs: list[Doc], condition: str, seed: int) -> list[Messages]:
    """The conversations of `docs` under `condition`.

    Raises:
        MissingDataError: the media cannot be exchanged between different identities.
    """
    if condition == "normal":
        return [doc.messages for doc in docs]
    if condition == "blind":
        return [without_images(doc.messages) for doc in docs]
    kind, identity = {
        "shuffled_images": ("image", attrgetter("image_identity")),
        "shuffled_audio": ("audio", attrgetter("audio_identity")),
    }[condition]
    having = [doc for doc in docs if any(found == kind for found, _ in media_refs(doc.messages))]
    try:
        order = derangement([identity(doc) for doc in having], seed)
    except ValueError as error:
        raise MissingDataError(f"{condition}: {error}") from error
    others = {id(doc): having[other] for doc, other in zip(having, order, strict=True)}
    return [
        replace_media(doc.messages, kind, medium(others[id(doc)].messages, kind))
        if id(doc) in others
        else doc.messages
        for doc in docs
    ]


def without_images(messages: Messages) -> Messages:
    """The same messages with no image and no video."""
    return [
        {**turn, "content": [p for p in turn["content"] if p["type"] not in ("image", "video")]}
        for turn in messages
    ]


def medium(messages: Messages, kind: str) -> Any:
    """The first medium of this kind."""
    return next(ref for found, ref in media_refs(messages) if found == kind)


def replace_media(messages: Messages, kind: str, ref: Any) -> Messages:
    """The same messages with every medium of this kind replaced."""
    return [
        {
            **turn,
            "content": [
                {"type": kind, kind: ref} if part["type"] == kind else part
                for part in turn["content"]
            ],
        }
        for turn in messages
    ]


def category_docs(held: HeldOut) -> list[Doc]:
    """The same question about every held-out picture."""
    if not held.pictures:
        raise MissingDataError(f"no held-out picture with a category under {held.root}")
    prompt = ASK_CATEGORY[0]
    return [
        Doc(
            picture.where,
            [user(image(picture.data), prompt)],
            prompt,
            picture.category,
            image_identity=picture.identity,
        )
        for picture in held.pictures
    ]


ROWS = (
    Own(
        "category", category_docs, open_answers, ("blind", "shuffled_images"), 12,
        controlled=CONTROLLED,
    ),
)  # fmt: skip
