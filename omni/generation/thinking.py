"""The thinking that a reasoning model writes before it answers."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

CLOSING = {
    "<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>",
    "<reasoning>": "</reasoning>", "<seed:think>": "</seed:think>", "[think]": "[/think]",
    "◁think▷": "◁/think▷", "<|begin_of_thought|>": "<|end_of_thought|>",
}  # fmt: skip
TAGS = (*CLOSING, *CLOSING.values())  # in lower case; they are found in any
_TAG = re.compile("|".join(map(re.escape, TAGS)), re.IGNORECASE)
_LAST = re.compile(rf"({'|'.join(map(re.escape, CLOSING))})\s*\Z", re.IGNORECASE)


class Thinking(NamedTuple):
    """`spans` [start, end) of a text that are thinking, tags included, and if the last is `open`.

    A closing tag without its opening one ends what began in the prompt: all before it is thinking.
    An opening tag that is never closed makes thinking of all that follows it.
    """

    spans: list[tuple[int, int]]
    open: bool


def find_thinking(text: str) -> Thinking:
    """Where the thinking of a text is; nowhere in most."""
    spans: list[tuple[int, int]] = []
    begin, closing = -1, ""
    for match in _TAG.finditer(text):
        tag = match[0].lower()
        if begin >= 0:
            if tag == closing:
                spans.append((begin, match.end()))
                begin = -1
        elif tag in CLOSING:
            begin, closing = match.start(), CLOSING[tag]
        else:
            spans = [(0, match.end())]
    return Thinking([*spans, (begin, len(text))] if begin >= 0 else spans, begin >= 0)


def without_thinking(text: str) -> str:
    """The answer alone, without the space around it; a text without thinking as it is."""
    spans = find_thinking(text).spans
    if not spans:
        return text
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    return "".join(text[end:start] for end, start in zip(ends, starts, strict=True)).strip()


def first_stop(text: str, stop: Sequence[str]) -> int:
    """Where the first stop string outside of thinking begins; -1 where there is none."""
    for start, end in find_thinking(text).spans if any(s in text for s in stop) else ():
        text = text[:start] + "\0" * (end - start) + text[end:]
    return min((at for at in (text.find(string) for string in stop) if at >= 0), default=-1)


def cut(text: str, stop: Sequence[str]) -> str:
    """Drop the first stop string behind the thinking and all after it, and the space around."""
    at = first_stop(text, stop)
    return (text if at < 0 else text[:at]).strip()


def opening(prompt: str) -> str:
    """The tag that a prompt ends with, where its template lets thinking begin; or ""."""
    found = _LAST.search(prompt)
    return found[1] if found else ""


def spell(tokenizer: Any, ids: list[int]) -> str:
    """Decode without special tokens, but for those that open and close thinking."""
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    if not any(token.lower() in TAGS for token in special):
        return tokenizer.decode(ids, skip_special_tokens=True)
    left_out = {number for token, number in special.items() if token.lower() not in TAGS}
    return tokenizer.decode([number for number in ids if number not in left_out])
