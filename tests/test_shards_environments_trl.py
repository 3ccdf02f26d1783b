"""Our worlds as TRL takes them: its trainer calls the verifier, as a reward or as a tool."""

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from data_shards.environments import make_environment
from data_shards.environments.trl import TrlEnvironment, trl_rows, verified
from omni.model.forward import load_text_tokenizer


def rows_of(**options):
    world = make_environment({"kind": "generalpoints", "answer": "formula", **options})
    return world, trl_rows(world, range(4))


@pytest.mark.parametrize("variant", ["text", "image"])
def test_completions_are_paid_by_the_world_of_their_row(variant):
    world, rows = rows_of(variant=variant, side=64)
    said = [world.solution(world.state(n)) for n in range(4)]
    said[1:3] = "1+1", ""
    notes = [row["world"] for row in rows]
    assert verified(None, said, world=notes, other=[0] * 4) == [5, -2, -3, 5]
    talks = [[{"role": "assistant", "content": text}] for text in said]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": t}]}] for t in said]
    assert (
        verified(None, talks, world=notes) == verified(None, parts, world=notes) == [5, -2, -3, 5]
    )
    assert [len(row.get("images", ())) for row in rows] == [int(variant == "image")] * 4


def test_a_prompt_with_sound_is_refused():
    pytest.importorskip("hibari")
    with pytest.raises(ValueError, match="no audio"):
        rows_of(variant="spoken")


def test_the_tool_pays_its_last_attempt_and_no_more_than_are_left():
    world, rows = rows_of(attempts=2)
    solution = world.solution(world.state(0))
    made = TrlEnvironment()
    for said, paid in (([], -1), (["1+1"], -2), (["1+1", solution], 5), ([solution, "1"], 5),
                       (["1", "", solution], -1)):  # fmt: skip
        assert made.reset(**rows[0]) is None
        told = [made.submit(answer) for answer in said]
        assert made.get_reward() == paid
        assert all("failed" in words for words in told[:1] if said[0] != solution)


@pytest.mark.parametrize("way", ["reward", "tool"])
def test_trl_trains_with_our_verifier(tmp_path, way):
    """On a text model: of ours its GRPO asks for one image token, where each modality has one."""
    torch.manual_seed(0)
    tokenizer = load_text_tokenizer("tiny:llama")
    tokenizer.chat_template = qwen3_chat_template  # one whose tool calls TRL can read
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    arguments = GRPOConfig(
        str(tmp_path), max_steps=1, per_device_train_batch_size=2, num_generations=2,
        max_completion_length=4, report_to=[], use_cpu=True, bf16=False, save_strategy="no",
        disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    given = {"reward_funcs": verified} if way == "reward" else {
        "environment_factory": TrlEnvironment
    }  # fmt: skip
    trainer = GRPOTrainer(
        LlamaForCausalLM(config), args=arguments, train_dataset=Dataset.from_list(rows_of()[1]),
        processing_class=tokenizer, **given,
    )  # fmt: skip
    trainer.train()
    # what it says at random is illegal; and no tool call, so nothing was submitted
    assert trainer.state.log_history[0]["reward"] == {"reward": -3, "tool": -1}[way]
