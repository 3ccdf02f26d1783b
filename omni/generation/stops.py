"""Strings that end answers, in the loop of `generate`."""

from collections.abc import Sequence
from typing import Any

import torch

from .thinking import first_stop, spell
from .watch import settled


class Stops:
    """Ends a row of `generate` once it holds a stop string; transformers' own reads the vocabulary.

    That takes seconds before the first answer, which a few decoded tokens a step never add up to.

    Args:
        tokenizer: of the model.
        prompt: tokens of the prompts, padding included.
        stop: strings that end an answer.
        begun: of each row, the tag of thinking that its prompt ends with, or "".
        ends: ids that end an answer.
        most: tokens of an answer.
    """

    def __init__(
        self, tokenizer: Any, prompt: int, stop: Sequence[str], begun: Sequence[str],
        ends: Sequence[int], most: int,
    ) -> None:  # fmt: skip
        self.tokenizer, self.prompt, self.stop, self.begun = tokenizer, prompt, stop, begun
        self.ends, self.most = frozenset(ends), most
        self.cleans = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
        self.tail = 4 * max(map(len, stop), default=0)  # tokens: a character may take four
        self.lengths: dict[int, int] = {}  # of the rows that hold one

    def ended(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return which rows (B,) hold a stop string."""
        new = input_ids[:, max(self.prompt, input_ids.shape[1] - self.tail) :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        ended = [any(string in text for string in self.stop) for text in texts]
        ended = [hit and not self._thinks(input_ids, row) for row, hit in enumerate(ended)]
        for row in (row for row, found in enumerate(ended) if found):
            self.lengths.setdefault(row, input_ids.shape[1] - self.prompt)
        return torch.tensor(ended, device=input_ids.device)

    def over(self, row: int, new: torch.Tensor) -> bool:
        last = int(new[row, -1])
        return last in self.ends or row in self.lengths or new.shape[1] == self.most

    def text(self, row: int, new: torch.Tensor) -> str:
        text = self.begun[row] + spell(self.tokenizer, new[row].tolist())
        return settled(text, self.stop, self.cleans)

    def _thinks(self, input_ids: torch.Tensor, row: int) -> bool:
        """Whether the stop strings of a row are all in its thinking."""
        text = self.begun[row] + spell(self.tokenizer, input_ids[row, self.prompt :].tolist())
        return first_stop(text, self.stop) < 0
