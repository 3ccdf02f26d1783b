"""What of a text is thinking, and what is its answer."""

import pytest

from omni.generation.thinking import CLOSING, cut, find_thinking, opening, without_thinking


@pytest.mark.parametrize(("begin", "end"), [*CLOSING.items(), ("<THINK>", "</Think>")])
def test_every_kind_of_thinking_is_found(begin, end):
    assert without_thinking(f"{begin}A or B?\n\nB.{end}\n\nB") == "B"
    assert without_thinking(f"A or B?{end} B") == "B"  # it began in the prompt
    assert without_thinking(f"So. {begin}A?{end} B {begin}{end}.") == "So.  B ."
    assert find_thinking(f"{begin}A or B? {end[:-1]}").open
    assert not find_thinking(f"{begin}A{end}").open
    assert opening(f"<|im_start|>assistant\n{begin}\n") == begin
    assert opening(f"{begin}A{end}\n") == ""


@pytest.mark.parametrize(
    ("text", "answer"),
    [("  A <b>\0", "  A <b>\0"), ("<think>a<think>b</think>c</think>d", "d"),
     ("<think>a</thinking>b", ""), ("<think>\0</think>x\0y", "x\0y")],
)  # fmt: skip
def test_nothing_else_is_taken(text, answer):
    assert without_thinking(text) == answer


def test_a_stop_string_ends_the_answer_and_not_its_thinking():
    text = "<think>a\n\nb</think>\nB\n\nC"
    assert cut(text, ("\n\n",)) == "<think>a\n\nb</think>\nB"
    assert cut(text, ("C", "B")) == "<think>a\n\nb</think>"
    assert cut("<think>a\n\nb", ("\n\n",)) == "<think>a\n\nb"
    assert cut(" A\n\nB", ("\n\n",)) == "A"


def test_a_long_loop_of_tags_takes_no_time():
    assert without_thinking("<think>" * 20_000) == ""
