"""One worked example: a held-out picture, a spoken question about it, the model's answer."""

from pathlib import Path
from typing import Any

from omni.generation.settings import Generation
from omni.processing.messages import bind, media_refs

from .heldout import load_heldout, prompt_and_expected, question_text
from .own import MissingDataError


def worked_example(
    model: Any, processor: Any, data: Path, out: Path, number: int = 0
) -> dict[str, str]:
    """Ask held-out spoken question `number`; its picture and sound are saved into `out`.

    Returns question, answer, expected, and the paths saved under "image" and "audio".

    Raises:
        MissingDataError: no spoken question is held out.
    """
    from omni.generation.answer import answer

    samples = load_heldout(Path(data)).spoken.get("spoken_question", [])
    if not samples:
        raise MissingDataError(f"no held-out sample of kind 'spoken_question' under {data}")
    sample = samples[number % len(samples)]
    prompt, expected = prompt_and_expected(sample)
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "question": str(sample.meta.get("text") or question_text(prompt)),
        "expected": expected,
        "sample": sample.where or sample.key,
    }
    for kind, name in media_refs(prompt):
        path = out / f"example{Path(name).suffix}"
        path.write_bytes(sample.parts[name])
        found[kind] = str(path)
    was_training = model.training
    model.eval()
    conversation = bind(prompt, sample.parts)
    found["answer"] = answer(model, processor, [conversation], Generation(16))[0]
    model.train(was_training)
    return found
