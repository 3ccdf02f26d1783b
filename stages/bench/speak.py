"""A model that speaks, heard: written and spoken questions, and every link of its chain."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from .speech import build_words, train_speech

STAGES = ("codec", "vocoder", "flow", "speak")
MOST = {"say": 10.0, "repeat": 20.0}  # wrong words in a hundred
CONTROL = 80.0
DRIFT = 2.0  # points
LONG = 60.0  # seconds
LINKS = ("recording", "frames", "true codes")


def run(folder: Path, small: bool = False, seeds: int = 1, overrides: Sequence[str] = ()) -> Result:
    """Train `speech_tiny` to say forty words, asked in writing and by voice; have them heard.

    A recogniser of its own tells which of the words it hears: in the recordings that were held
    out, in the vocoder's sound of their frames, in the sound of their codes, and in the answers of
    the model, to written questions and to unseen renditions. In the control each answer is held
    against another's words. The weakest link is where most words are lost. `last_word` is how many
    answers of a hundred end with their last word; `drift` how many points more words are lost in
    the last third of 60 s that are coded and sounded in one piece than in the first, each word
    once in either.

    Args:
        folder: to work in.
        small: few clips and steps, which shows that it runs.
        seeds: how many models are trained.
        overrides: of the recipe.
    """
    data = folder / "say"
    build_words(data, 2 if small else 24, tasks=("say", "repeat"))
    changes = [f"stages.{name}.steps=3" for name in STAGES] if small else []
    found = []
    for seed in range(seeds):
        target = train_speech(folder / f"run{seed}", data, STAGES,
                              [*changes, f"seed={seed}", *overrides])  # fmt: skip
        found.append(_measure(target, data, folder / f"eval{seed}"))
    mean = {name: statistics.mean(one[name] for one in found) for name in found[0]}
    rows = [{"link": name, **{f"seed {n}": round(one[name], 1) for n, one in enumerate(found)}}
            for name in mean]  # fmt: skip
    figures = {name.replace(" ", "_"): round(value, 1) for name, value in mean.items()}
    figures |= {"seeds": seeds, "weakest": _weakest(mean)}
    return Result(all(_holds(one) for one in found), figures, rows)


def _holds(wer: dict[str, float]) -> bool:
    return wer["drift"] <= DRIFT and wer["last word"] == 100 and all(
        wer[name] <= most and wer[f"{name} control"] >= CONTROL for name, most in MOST.items()
    )  # fmt: skip


def _weakest(wer: dict[str, float]) -> str:
    """Return the link that loses most words to the one before it."""
    chain = [*LINKS, "say"]
    lost = {link: wer[link] - (wer[before] if before else 0.0)
            for before, link in zip(["", *chain], chain, strict=False)}  # fmt: skip
    return max(lost, key=lambda link: lost[link])


def _measure(checkpoint: Path, data: Path, out: Path) -> dict[str, float]:
    """Return the word error rate of every link, and of spoken answers with their controls."""
    from eval.run import run_suite
    from omni.load import load

    model, processor = load(checkpoint)
    found = _links(model, processor, data)
    for row in run_suite(model, processor, "speech", data, out, rows=",".join(MOST))["rows"]:
        found[row["name"]] = row["details"]["wer"]
        found[f"{row['name']} control"] = 100 - row["controls"]["shuffled_speech"]["score"]
        if row["name"] == "say":
            found["last word"] = 100 * row["details"]["last_word"] / row["n"]
    return found | {"drift": _drift(model, processor, data)}


def _links(model: Any, processor: Any, data: Path) -> dict[str, float]:
    """Return the word error rate of what is made of held-out recordings, link by link."""
    import torch

    from eval.scoring.recogniser import Recogniser
    from eval.scoring.right import word_errors
    from omni.generation.sound import Voice
    from omni.heads.mel import log_mel

    from .speech import codes_of

    recordings, texts = _recordings(processor, data)
    voice, ear = Voice(model), Recogniser()
    wrong, words = dict.fromkeys(LINKS, 0), 0
    for batch, text in recordings:
        wave = batch["code_wave"][0]
        with torch.no_grad():
            frames = voice.vocoder(log_mel(wave)[None])[0]
        sounds = wave, frames, voice.wave(codes_of(model, batch))
        for link, sound in zip(LINKS, sounds, strict=True):
            errors, expected = word_errors(ear.heard(sound, texts), text)
            wrong[link] += errors
        words += expected  # type: ignore[possibly-unbound]
    return {link: 100 * count / words for link, count in wrong.items()}


def _recordings(processor: Any, data: Path) -> tuple[list[tuple[Any, str]], list[str]]:
    """Return the held-out recordings that are asked for in writing, and the texts of all."""
    from data_shards.read.entry import read_shard

    from .speech import clips_of

    samples = [one for shard in sorted(data.glob("heldout-*.tar")) for one in read_shard(shard)]
    texts = [str(one.meta["answer"]) for one in samples]
    batches = clips_of(processor, data, "heldout")
    return [(batch, text) for batch, text, one in zip(batches, texts, samples, strict=True)
            if one.meta["kind"] == "say"], texts  # fmt: skip


def _drift(model: Any, processor: Any, data: Path) -> float:
    """Return how many points more words are lost at the end of a long sound than at its beginning.

    Recordings follow one another until it lasts `LONG`; it is coded, and sounded, in one piece.
    It is heard three times, its thirds in turn the last, so that every word stands in each: what
    is left of the difference is the place, and not which words are hard to hear.
    """
    from eval.scoring.recogniser import Recogniser
    from omni.heads.mel import RATE

    recordings, texts = _recordings(processor, data)
    parts: list[tuple[Any, str]] = []
    while sum(len(wave) for wave, _ in parts) < LONG * RATE or len(parts) % 3:
        batch, text = recordings[len(parts) % len(recordings)]
        parts.append((batch["code_wave"][0], text))
    ear, third, drifts = Recogniser(), len(parts) // 3, list[float]()
    for turn in range(3):
        first = turn * third
        lost = _lost(model, processor, ear, [*parts[first:], *parts[:first]], texts)
        drifts.append(statistics.mean(lost[-third:]) - statistics.mean(lost[:third]))
    return statistics.mean(drifts)


def _lost(
    model: Any, processor: Any, ear: Any, parts: Sequence[tuple[Any, str]], texts: Sequence[str]
) -> list[float]:  # fmt: skip
    """Return the word error rate of each of the parts that one sound is made of."""
    import torch

    from eval.scoring.right import word_errors
    from omni.generation.sound import Voice
    from omni.processing.messages import audio, user

    from .speech import codes_of

    whole = torch.cat([wave for wave, _ in parts]).numpy()
    made = Voice(model).wave(
        codes_of(model, processor.pack([processor.encode([user(audio(whole))])]))
    )
    lost, at = list[float](), 0
    for wave, text in parts:
        errors, words = word_errors(ear.heard(made[at : at + len(wave)], texts), text)
        lost.append(100 * errors / words)
        at += len(wave)
    return lost
