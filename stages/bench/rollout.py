"""Groups of answers from one prefill, beside one answer after the other and a plain batch."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

PROMPTS, GROUP, WORDS, NEW = 4, 8, 400, 32
ROUNDS = 3
ALONE, PLAIN = 2.0, 1.2  # times as many tokens per CPU-second


def run(folder: Path, small: bool = False) -> Result:
    """Answer four prompts of a picture and 400 letters eight times each, greedily, by turns.

    So all three ways draw equal tokens. The model is a random Llama, 256 wide, that sees; medians
    of the CPU-seconds of this process.

    Args:
        folder: for the model.
        small: one short turn.
    """
    from omni.generation.prefix import groups_of

    model, processor = _model(folder, small)
    words, new, rounds = (40, 4, 1) if small else (WORDS, NEW, ROUNDS)
    prompts = _prompts(processor, words)

    def together() -> list[list[int]]:
        return _answers(model, processor, groups_of(processor, prompts), GROUP, new)

    def plain() -> list[list[int]]:
        return _answers(model, processor, processor.pad(prompts), GROUP, new)

    def alone() -> list[list[int]]:
        return [ids for prompt in prompts for _ in range(GROUP)
                for ids in _answers(model, processor, processor.pad([prompt]), 1, new)]  # fmt: skip

    ways: dict[str, Callable[[], list[list[int]]]] = {
        "groups": together, "a batch": plain, "one by one": alone,
    }  # fmt: skip
    drawn: dict[str, list[list[int]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            drawn[name] = way()
            seconds[name].append(time.process_time() - began)
    equal = all(ids == drawn["groups"] for ids in drawn.values())
    tokens = sum(map(len, drawn["groups"]))
    rates = {name: tokens / statistics.median(spent) for name, spent in seconds.items()}
    rows = [{"way": name, "tokens": tokens, "tokens per CPU-second": round(rate, 1),
             "groups are faster by": round(rates["groups"] / rate, 2)}
            for name, rate in rates.items()]  # fmt: skip
    over = {name: rates["groups"] / rates[name] for name in ("one by one", "a batch")}
    fast = over["one by one"] >= ALONE and over["a batch"] >= PLAIN
    return Result(equal and (fast or small), {
        "over_one_by_one": round(over["one by one"], 2), "over_batch": round(over["a batch"], 2),
        "equal_tokens": equal,
    }, rows)  # fmt: skip


def _answers(model: Any, processor: Any, batch: Any, times: int, new: int) -> list[list[int]]:
    from omni.generation.answer import complete
    from omni.generation.settings import Generation

    how = Generation(max_new_tokens=new, n=times)
    return [one.ids.tolist() for one in complete(model, processor, batch, how)]


def _prompts(processor: Any, words: int) -> list[Any]:
    from omni.processing.messages import fill

    from .worlds import Letters

    world, found = Letters(("image",), words), []
    for seed in range(PROMPTS):
        messages, media = world.prompt(world.state(seed))
        found.append(processor.encode(fill(messages, media), generation=True))
    return found


def _model(folder: Path, small: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from omni import OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer
    from omni.weights import resolve

    from ..recipe.read import load_recipe

    torch.manual_seed(0)
    tiny = resolve("tiny:llama").folder
    config = AutoConfig.from_pretrained(tiny)
    if not small:
        config.update({"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
                       "num_attention_heads": 8, "head_dim": 32})  # fmt: skip
    tokenizer = load_text_tokenizer("tiny:llama")
    for part in (AutoModelForCausalLM.from_config(config), tokenizer):
        part.save_pretrained(folder / "llm")
    model = OmniForConditionalGeneration.from_text(str(folder / "llm")).eval()
    processor = OmniProcessor(tokenizer)
    [spec] = [s.attach["vision"] for s in load_recipe("tiny").stages if "vision" in s.attach]
    model.attach("vision", spec, processor)
    return model.eval().requires_grad_(False), processor
