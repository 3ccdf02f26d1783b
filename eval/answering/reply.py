"""What a model wrote, and whether it is an answer."""

from typing import NamedTuple, Self

from omni.generation.thinking import find_thinking, without_thinking


class Reply(str):
    """A text as it was written, with its thinking.

    Args:
        text: all of it.
        finish: why it ends: "stop"; "length" at the limit of new tokens; "content_filter" where
            an endpoint withheld the rest.
        remark: what was done to the question on its way; "" for nothing.
        thinking: tokens of it, where it had a budget.
    """

    finish: str
    remark: str
    thinking: int

    def __new__(cls, text: str, finish: str = "stop", remark: str = "", thinking: int = 0) -> Self:
        reply = super().__new__(cls, text)
        reply.finish, reply.remark, reply.thinking = finish, remark, thinking
        return reply

    @property
    def answer(self) -> str:
        return without_thinking(self)

    @property
    def thought(self) -> bool:
        return bool(find_thinking(self).spans)

    @property
    def why_none(self) -> str:
        """Why there is no answer in it, in words; "" where there is one, if an empty one."""
        if self.finish == "content_filter":
            return "the endpoint's content filter withheld the answer"
        if find_thinking(self).open:
            if self.finish == "length":
                return "cut inside its thinking; --max-new-tokens allows more"
            return "ended inside its thinking"
        if self.thought and not self.answer:
            return "nothing stands behind its thinking"
        return ""


class Note(NamedTuple):
    """What is to be known of the answer to the question `name`.

    `kind` is "unanswered", "cut" (at the limit of new tokens), "thought" (its thinking was taken
    out), "shortened" (it lost its middle) or "remark"; `text` says more.
    """

    kind: str
    name: str
    text: str

    @property
    def line(self) -> str:
        return f"{self.name}: {self.text}" if self.name else self.text
