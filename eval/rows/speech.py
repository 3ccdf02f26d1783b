"""Rows of a checkpoint that speaks: what is heard of its answers."""

from pathlib import Path
from typing import Any

from omni.generation.settings import Generation

from ..answering.answerer import Answerer
from ..answering.speaker import Heard
from ..scoring.right import Outcome, Scored, normalise, words_right
from .heldout import HeldOut, derangement
from .own import SEED, Doc, MissingDataError, Own, apply_condition
from .spoken import HEARD, spoken_docs

EXCHANGED = "shuffled_speech"  # a control: the codes of another answer


class Speech(Own):
    """A row of spoken answers, each heard as one of the answers that its data hold.

    The score is 100 less the word error rate of what is heard against the text expected.
    """

    def run(
        self, answerer: Answerer, held: HeldOut, condition: str, limit: int | None, scratch: Path
    ) -> Scored:
        """Ask every doc under one condition, have the answers spoken, and hear them.

        Raises:
            MissingDataError: no docs, or the condition cannot be made from them.
            CannotAskError: the model cannot speak.
        """
        among = [doc.question for doc in self.docs(held)]  # the texts that are to be said
        docs = self.sample(held, limit)
        asked = apply_condition(docs, "normal" if condition == EXCHANGED else condition, SEED)
        texts = answerer(asked, Generation(self.max_new_tokens, self.stop),
                         names=[f"{self.name}:{doc.name}" for doc in docs])  # fmt: skip
        heard = answerer.hear(asked, texts, among)
        if condition == EXCHANGED:
            heard = [heard[other] for other in _others(docs)]
        return self.judge(held, docs, texts, heard, len(set(among)))

    def judge(
        self, held: HeldOut, docs: list[Doc], texts: list[str], heard: list[Heard], among: int
    ) -> Scored:
        """Score what was heard of docs.

        Args:
            held: whose docs they are.
            docs: that were asked.
            texts: what was written for each.
            heard: what was heard of it.
            among: answers that the recogniser chose among.
        """
        scored = words_right([
            Outcome(doc.name, doc.question, doc.expected, one.text, 0.0)
            for doc, one in zip(docs, heard, strict=True)
        ])  # fmt: skip
        scored.details |= facts(docs, texts, heard)
        scored.details["rule"] = (
            f"the recogniser chooses among {among} answers; {_in_words(scored.details, len(heard))}"
        )
        return scored


def _others(docs: list[Doc]) -> list[int]:
    try:
        return derangement([normalise(doc.expected) for doc in docs], SEED)
    except ValueError as error:
        raise MissingDataError(f"{EXCHANGED}: {error}") from error


def facts(docs: list[Doc], texts: list[str], heard: list[Heard]) -> dict[str, Any]:
    """Return what is to be known of spoken answers beside the words that are wrong."""
    seconds = [one.seconds for one in heard]
    last = [normalise(one.text).split()[-1:] == normalise(doc.expected).split()[-1:]
            for doc, one in zip(docs, heard, strict=True)]  # fmt: skip
    written = [bool(one.text) and normalise(one.text) == normalise(text)
               for text, one in zip(texts, heard, strict=True)]  # fmt: skip
    return {
        "seconds": round(sum(seconds) / len(seconds), 2),
        "last_word": sum(last), "as_written": sum(written),
        "endless": sum(not one.ended for one in heard),
    }  # fmt: skip


def _in_words(found: dict[str, Any], spoken: int) -> str:
    return (
        f"{found['seconds']} s are spoken on average; the last word is heard in "
        f"{found['last_word']} of {spoken}, the text as it was written in {found['as_written']}; "
        f"{found['endless']} were cut at the most frames"
    )


def _row(name: str, controls: tuple[str, ...]) -> Speech:
    docs = spoken_docs(name, f"speech --task {name}")
    return Speech(name, docs, words_right, controls, 24, 120, how="own (heard by Whisper)")


ROWS = (
    _row("say", (EXCHANGED,)), _row("repeat", (*HEARD, EXCHANGED)), _row("imitate", (EXCHANGED,)),
)  # fmt: skip
