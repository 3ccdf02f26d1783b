"""Rows of speech: words, questions and sentences, read by voices and by people."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from omni.processing.messages import bind

from ..scoring.right import Outcome, normalise, open_answers, transcripts, words_right
from .heldout import HeldOut, prompt_and_expected, question_text
from .own import CONTROLLED, Doc, MissingDataError, Own


def spoken_docs(
    kind: str, build: str = "speech", category: Callable[[Any], str] = lambda sample: ""
) -> Callable[[HeldOut], list[Doc]]:
    """Docs of the held-out samples of one spoken kind, asked exactly as the sample asks.

    `build` are the arguments of the build that makes them; `category` is what each counts to.
    """

    def docs(held: HeldOut) -> list[Doc]:
        samples = held.spoken.get(kind, [])
        if not samples:
            raise MissingDataError(
                f"no held-out sample of kind {kind!r} under {held.root}; "
                f"`omni-shards build {build} --out {held.root / build.split()[-1]}` makes them"
            )
        return [replace(_spoken_doc(s, kind), category=category(s)) for s in samples]

    return docs


def _spoken_doc(sample: Any, kind: str) -> Doc:
    prompt, expected = prompt_and_expected(sample)
    # What is spoken: the transcript itself, or for a question the words the voice speaks.
    spoken = expected if kind != "spoken_question" else str(sample.meta.get("text", ""))
    return Doc(
        sample.key,
        bind(prompt, sample.parts),
        spoken or question_text(prompt),
        expected,
        image_identity=str(sample.meta.get("identity", "")),
        audio_identity=spoken.lower(),
    )


def question_type(sample: Any) -> str:
    """What a spoken question asks for, by its answer."""
    expected = normalise(prompt_and_expected(sample)[1])
    if expected in ("yes", "no"):
        return "yes/no"
    return "category" if expected == normalise(str(sample.meta.get("category"))) else "caption"


def voices_rule(kind: str) -> Callable[[HeldOut, list[Outcome]], str]:
    """Whose voices read these, and whether training heard them; "" where the data do not say."""

    def rule(held: HeldOut, outcomes: list[Outcome]) -> str:
        found = {s.meta["voice"]: s.meta["unseen_voice"]
                 for s in held.spoken[kind] if "unseen_voice" in s.meta}  # fmt: skip
        heard = "never heard in training" if all(found.values()) else "also heard in training"
        return f"read by {', '.join(sorted(found))}: voices {heard}" if found else ""

    return rule


def speakers_rule(kind: str) -> Callable[[HeldOut, list[Outcome]], str]:
    """Which people were trained on, and how many of the words are taught."""

    def rule(held: HeldOut, outcomes: list[Outcome]) -> str:
        trained = {n for s in held.spoken[kind] for n in s.meta.get("train_speakers", ())}
        who = f"{', '.join(sorted(trained))}, who are not asked here" if trained else "nobody"
        text = f"of the people recorded, training hears {who}"
        if kind == "human_word":
            taught = {normalise(str(s.meta["text"])) for s in held.spoken.get("transcription", ())}
            known = [o.correct for o in outcomes if normalise(o.expected) in taught]
            text += f"; {len(known)} of {len(outcomes)} are words that spoken words teach"
            text += f", {100 * sum(known) / len(known):.1f} % of them right" if known else ""
        return text

    return rule


def made_or_caption(sample: Any) -> str:
    """Where a sentence is from."""
    return str(sample.meta["category"])


def speaker_of(sample: Any) -> str:
    """Who is recorded."""
    return str(sample.meta["speaker"])


HEARD = ("shuffled_audio",)
ROWS = (
    Own(
        "spoken_word", spoken_docs("transcription"), transcripts, HEARD, 24, 120,
        rule=voices_rule("transcription"), controlled=CONTROLLED,
    ),
    Own(
        "spoken_question", spoken_docs("spoken_question", category=question_type), open_answers,
        ("blind", "shuffled_images", *HEARD), 12, 120,
        rule=voices_rule("spoken_question"), controlled=CONTROLLED,
    ),
    Own(
        "transcription", spoken_docs("sentence", "speech --text sentences", made_or_caption),
        words_right, HEARD, 48, 120, rule=voices_rule("sentence"), controlled=CONTROLLED,
    ),
    Own(
        "human_speech", spoken_docs("human_speech", "stamps"), transcripts, HEARD, 24, 80,
        controlled=CONTROLLED,
    ),
    Own(
        "human_word", spoken_docs("human_word", "recordings", speaker_of), transcripts, HEARD, 24,
        120, rule=speakers_rule("human_word"), controlled=CONTROLLED,
    ),
    Own(
        "human_transcription", spoken_docs("human_sentence", "recordings", speaker_of),
        words_right, HEARD, 64, 120, rule=speakers_rule("human_sentence"), controlled=CONTROLLED,
    ),
)  # fmt: skip
