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
LINKS = ("recording", "frames", "true codes")


def run(folder: Path, small: bool = False, seeds: int = 1, overrides: Sequence[str] = ()) -> Result:
    """Train `speech_tiny` to say forty words, asked in writing and by voice; have them heard.

    A recogniser of its own tells which of the words it hears: in the recordings that were held
    out, in the vocoder's sound of their frames, in the sound of their codes, and in the answers of
    the model, to written questions and to unseen renditions. In the control each answer is held
    against another's words. The weakest link is where most words are lost.

    Args:
        folder: to work in.
        small: few clips and steps, which shows that it runs.
        seeds: how many models are trained.
        overrides: of the recipe.
    """
    data = folder / "say"
    build_words(data, 2 if small else 12, tasks=("say", "repeat"))
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
    return all(wer[name] <= most and wer[f"{name} control"] >= CONTROL
               for name, most in MOST.items())  # fmt: skip


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
    for row in run_suite(model, processor, "speech", data, out)["rows"]:
        found[row["name"]] = row["details"]["wer"]
        found[f"{row['name']} control"] = 100 - row["controls"]["shuffled_speech"]["score"]
    return found


def _links(model: Any, processor: Any, data: Path) -> dict[str, float]:
    """Return the word error rate of what is made of held-out recordings, link by link."""
    import torch

    from data_shards.read.entry import read_shard
    from eval.scoring.recogniser import Recogniser
    from eval.scoring.right import word_errors
    from omni.generation.sound import Voice
    from omni.heads.mel import log_mel

    from .speech import clips_of, codes_of

    samples = [one for shard in sorted(data.glob("heldout-*.tar")) for one in read_shard(shard)]
    texts = [str(one.meta["answer"]) for one in samples]
    kept = [n for n, one in enumerate(samples) if one.meta["kind"] == "say"]
    batches = list(clips_of(processor, data, "heldout"))
    voice, ear = Voice(model), Recogniser()
    wrong, words = dict.fromkeys(LINKS, 0), 0
    for at in kept:
        wave = batches[at]["code_wave"][0]
        with torch.no_grad():
            frames = voice.vocoder(log_mel(wave)[None])[0]
        sounds = wave, frames, voice.wave(codes_of(model, batches[at]))
        for link, sound in zip(LINKS, sounds, strict=True):
            errors, expected = word_errors(ear.heard(sound, texts), texts[at])
            wrong[link] += errors
        words += expected  # type: ignore[possibly-unbound]
    return {link: 100 * count / words for link, count in wrong.items()}
