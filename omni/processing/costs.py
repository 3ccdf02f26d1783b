"""What conversations cost, in tokens and features, without reading their media."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders import encoder_class, readers
from ..model.encoded import PlaceholderError
from ..projectors import token_counts
from .literal import stand_ins, tokenize
from .messages import Message, validate
from .template import flatten, placeholder, texts_of

_VERSION = 2  # of how messages become text: raise it when their number of tokens changes


class Costs:
    """A processor that knows lengths from facts: those of an index, or of headers."""

    if TYPE_CHECKING:
        chat_template: str
        modalities: dict[str, Any]
        tokenizer: Any
        video: dict[str, Any]
        clip_sketch: Any
        frames_of: Any
        sounds_of: Any
        _check_voice: Any
        _readers: Any
        _segments: Any

    def text_length(
        self, messages: list[Message], facts: Mapping[str, Any] = MappingProxyType({}),
        generation: bool = False,
    ) -> int:  # fmt: skip
        """Count the tokens of a conversation without those of its media.

        `len(encode(messages, generation))` is that plus `media_lengths` of each file, because a
        placeholder is a token of its own wherever it stands.

        Args:
            messages: media are names, or anything but videos.
            facts: of each video by its name, as `media_lengths` takes them; its times are text.
            generation: whether the header of an answer ends it.

        Raises:
            MessageError, PlaceholderError: as `encode`.
        """
        validate(messages)
        self._check_voice(messages)
        shown: Counter[str] = Counter()
        standing = stand_ins(self.tokenizer, texts_of(messages))
        flat = flatten(messages, partial(self._sketch, shown, facts), standing)
        texts = [text for text, _ in self._segments(flat, generation)]
        ids = Counter(i for row in tokenize(self.tokenizer, texts, standing) for i in row)
        for name, config in self.modalities.items():
            if ids[config["token_id"]] != shown[name]:
                raise PlaceholderError(f"the chat template prints {placeholder(name)} itself")
        return ids.total() - shown.total()

    def media_lengths(self, kind: str, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the cost of files of one kind from their facts, (n,), without decoding any.

        Args:
            kind: image, audio, video, which is its frames, or track: what is heard of a video.
            facts: the fields of `omni.media.facts.Facts`, of videos also `fps`, `max_frames` and
                `sound` of their parts, 0 where they leave it open, see `clips.HEARD`.

        Returns:
            LLM tokens (n,), and features that leave the encoder (n,): patches or audio frames.

        Raises:
            MessageError: no modality reads that kind.
        """
        files = len(facts)
        file = np.arange(files)
        if kind == "video":  # as many images of its size as frames are shown
            self._readers(kind)
            frames = self.frames_of(facts)
            tokens, features = self.media_lengths("image", facts)
            return tokens * frames, features * frames
        tokens, features = np.zeros((2, files), np.int64)
        if kind == "track":
            frames = self.frames_of(facts)
            frame, facts = self.sounds_of(facts, frames)
            if not len(frame):  # nor is any modality needed that reads it
                return tokens, features
            file, kind = np.repeat(file, frames)[frame], "audio"
        reading = self._readers(kind).values()
        for config in reading:
            item, grids = encoder_class(config["encoder"]).grids_of(config["encoder"], facts)
            costs = token_counts(config["projector"], grids), np.prod(grids, axis=1)
            for total, cost in zip((tokens, features), costs, strict=True):
                total += np.bincount(file[item], cost, files).astype(np.int64)
        return tokens, features

    def _sketch(self, shown: Counter[str], facts: Mapping[str, Any], part: dict[str, Any]) -> str:
        """Return what stands for a medium without reading it, with single placeholders."""
        kind = part["type"]
        self._readers(kind)
        pieces = [("", kind, None)]
        if kind == "video":
            pieces = self.clip_sketch(np.atleast_1d(facts[part["video"]]))
        text = ""
        for stamp, medium, _ in pieces:
            names = [*self._readers(medium)]
            shown.update(names)
            text += stamp + "".join(map(placeholder, names))
        return text

    @property
    def fingerprint(self) -> str:
        """Return a digest of everything that decides `text_length`."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else sorted(self.tokenizer.get_vocab().items())
        media = {name: encoder_class(c["encoder"]).media for name, c in self.modalities.items()}
        special = self.tokenizer.bos_token, self.tokenizer.eos_token
        decides = [_VERSION, vocabulary, special, self.chat_template, media, self.video]
        if "max_tokens" in self.video:  # how many frames, and so times, it allows
            decides.append(readers(self.modalities, "image"))
        decides = json.dumps(decides, sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()[:16]
