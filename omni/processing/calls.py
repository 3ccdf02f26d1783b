"""What transformers, its pipelines and TRL call on a processor."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import BatchFeature, ProcessorMixin

from ..encoders import tensor_names
from ..encoders.audio import RATE
from ..model.encoded import Encoded, PlaceholderError
from ..model.head import IGNORE_INDEX
from .given import flat, in_parts, sampling_of
from .messages import MEDIA, SAMPLING, MessageError
from .offsets import Offsets, joined, replacements
from .template import template_variables

MARKERS = {f"<|{kind}|>": kind for kind in MEDIA}
"""what stands for a medium in a text, whatever the placeholders of its readers are"""
_GROUPS = ("common_kwargs", "text_kwargs", "images_kwargs", "audio_kwargs", "videos_kwargs")
_OPTIONS = {
    "padding", "padding_side", "truncation", "max_length", "pad_to_multiple_of", "return_tensors",
    "add_special_tokens", "return_mm_token_type_ids", "sampling_rate", "num_frames",
    "do_sample_frames", "return_text_replacement_offsets", *SAMPLING,
}  # fmt: skip


class ProcessorCalls(Offsets, ProcessorMixin):
    """`processor(text=..., images=...)` and `processor.apply_chat_template(...)`."""

    if TYPE_CHECKING:
        encode: Any
        modalities: dict[str, Any]
        shown: Any
        check_placeholders: Any
        _collate_media: Any
        _readers: Any
        _show: Any

    def __call__(  # type: ignore[override]
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        videos: Any = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenise texts in which `<|image|>`, `<|audio|>` and `<|video|>` stand for media.

        So does `image_token` or `audio_token`, once for a medium: it is the placeholder, which
        becomes as many of them as the medium has tokens.

        Args:
            images: one, a list, or a list for each text: PIL images, arrays, paths, bytes, URLs.
            text: one or several, as `apply_chat_template(..., tokenize=False)` returns them.
            videos: as images: paths or bytes.
            audio: as images: mono float arrays at 16 kHz, paths or bytes; or as `audios`, the
                older name that lmms-eval uses.
            kwargs: `padding`, `padding_side` (default: left), `truncation`, `max_length`,
                `pad_to_multiple_of`, `return_tensors`, `add_special_tokens`,
                `return_mm_token_type_ids`; of videos `fps` and `max_frames`, or `num_frames`; and
                `return_text_replacement_offsets`, see `offsets`. How media are preprocessed is
                the checkpoint's own, and no option.

        Raises:
            MessageError: media and markers differ in number, or no modality reads a kind.
            MediaError: a medium cannot be decoded within the limits.
            PlaceholderError: the text spells placeholders itself, or truncation cuts some off.
            ValueError: an unknown option.
        """
        if text is None:
            raise ValueError("pass text, with <|image|>, <|audio|> or <|video|> for each medium")
        texts = [text] if isinstance(text, str) else list(text)
        audio = kwargs.pop("audios", None) if audio is None else audio
        options = _options(kwargs)
        given = {"image": images, "video": videos, "audio": audio}
        markers = self._markers()
        pieces = [re.split(f"({'|'.join(map(re.escape, markers))})", text) for text in texts]
        kinds = [[markers[marker] for marker in row[1::2]] for row in pieces]
        refs = {kind: iter(flat(kind, given[kind], [row.count(kind) for row in kinds]))
                for kind in MEDIA}  # fmt: skip
        media: list[dict[str, Any]] = [{} for _ in texts]
        standing = [[self._stand_in(kind, found, refs, options) for kind in row]
                    for row, found in zip(kinds, media, strict=True)]  # fmt: skip
        shown = [joined(row, put) for row, put in zip(pieces, standing, strict=True)]
        bos = self.tokenizer.bos_token
        add = options.get("add_special_tokens", not (bos and all(t.startswith(bos) for t in texts)))
        rows = self.tokenizer(shown, add_special_tokens=add)["input_ids"]
        encoded = [Encoded(torch.tensor(row, dtype=torch.long), torch.tensor([]), m)
                   for row, m in zip(rows, media, strict=True)]  # fmt: skip
        for sample in encoded:
            self.check_placeholders(sample)
        if not options.get("return_text_replacement_offsets"):
            return self._batch(encoded, options)
        places = [replacements(*row) for row in zip(pieces, kinds, standing, strict=True)]
        batch = self._batch([replace(sample, media={}) for sample in encoded], options)
        batch.update(self.one_by_one(media), text_replacement_offsets=places)
        return batch

    def _markers(self) -> dict[str, str]:
        """Tell what stands for media in a text: marker -> kind."""
        return {**MARKERS, **{self.marker(kind): kind for kind in MEDIA}}

    def marker(self, kind: str) -> str:
        """Return what stands for a medium in a text, whether or not a modality reads it."""
        return self._token_of(kind)[0] or f"<|{kind}|>"

    def _stand_in(
        self, kind: str, media: dict, refs: dict[str, Iterator], options: dict[str, Any]
    ) -> str:
        """Preprocess the next medium of a kind into `media`; return its placeholders."""
        more = sampling_of(options) if kind == "video" else {}
        return self._show(media, None, {"type": kind, kind: next(refs[kind]), **more})

    def _batch(
        self, encoded: list[Encoded], options: dict[str, Any], answers: bool = False
    ) -> BatchFeature:
        """Truncate and pad rows, media of all of them joined; with `answers`, say which tokens are.

        Raises:
            PlaceholderError: truncation cuts media off.
            ValueError: an option has no such value.
        """
        columns = {
            "input_ids": [sample.input_ids.tolist() for sample in encoded],
            "attention_mask": [[1] * len(sample) for sample in encoded],
        }
        if answers:
            columns["assistant_masks"] = [(s.labels != IGNORE_INDEX).int().tolist()
                                          for s in encoded]  # fmt: skip
        most = options.get("max_length") or self.tokenizer.model_max_length
        if options.get("truncation"):
            cut = {i for row in columns["input_ids"] for i in row[most:]}
            if cut & {config["token_id"] for config in self.modalities.values()}:
                raise PlaceholderError(
                    f"truncation to {most} tokens cuts media off: raise max_length"
                )
            columns = {name: [row[:most] for row in rows] for name, rows in columns.items()}
        fillers = {"input_ids": self.tokenizer.pad_token_id or 0}
        data: dict[str, Any] = {name: _filled(rows, fillers.get(name, 0), options)
                                for name, rows in columns.items()}  # fmt: skip
        if options.get("return_mm_token_type_ids"):
            data["mm_token_type_ids"] = self.create_mm_token_type_ids(data["input_ids"])
        data |= self._collate_media(encoded)
        return BatchFeature(data, tensor_type=options.get("return_tensors"))

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Any,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_tensors: str | None = "pt",
        return_dict: bool = True,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render one conversation or a batch of them, as in transformers.

        With `tokenize=True` the result goes straight into `model.generate`; with `tokenize=False`
        it is the text, media shown as single markers, which `processor(text=...)` takes.

        Args:
            conversation: messages, or a list of conversations; content is a text or parts.
            chat_template: instead of the processor's own.
            add_generation_prompt: end with the header of an answer.
            continue_final_message: leave the last message open.
            return_assistant_tokens_mask: add `assistant_masks`, 1 on the tokens of answers.
            tokenize: return tensors, padded on the left.
            return_tensors: their type; None: lists.
            return_dict: or else `input_ids` alone.
            processor_kwargs: options of `processor(...)`.
            kwargs: variables of the template (`tools`, `enable_thinking` ...), or such options.

        Raises:
            MessageError, MediaError, PlaceholderError: as `encode`.
            ValueError: a keyword that neither the template nor the processor knows.
        """
        if continue_final_message and add_generation_prompt:
            raise ValueError("a message that goes on has no header after it: pass one of "
                             "continue_final_message and add_generation_prompt")  # fmt: skip
        template = self._resolve_chat_template(chat_template)
        known = template_variables(template)
        variables = {k: v for k, v in kwargs.items() if k in known}
        rest = {k: v for k, v in kwargs.items() if k not in known}
        options = _options({"padding": True, "return_tensors": return_tensors,
                            **(processor_kwargs or {}), **rest})  # fmt: skip
        variables |= {"chat_template": template, "continue_final_message": continue_final_message}
        conversations, batched = self._normalize_conversations(conversation)
        conversations = [[in_parts(m, options) for m in c] for c in conversations]
        if not tokenize:
            texts = [self.shown(c, add_generation_prompt, **variables) for c in conversations]
            return texts if batched else texts[0]
        encoded = [self.encode(c, add_generation_prompt, **variables) for c in conversations]
        batch = self._batch(encoded, options, return_assistant_tokens_mask)
        return batch if return_dict else batch["input_ids"]

    @property
    def model_input_names(self) -> list[str]:
        media = tensor_names(self.modalities).values()
        return ["input_ids", "attention_mask", *(n for names in media for n in names.values())]

    def _tokens_of(self, kind: str) -> list[int | None]:
        """Return the ids among the tokens that stand for a medium, one for each of its readers."""
        try:
            return [config["token_id"] for config in self._readers(kind).values()]
        except MessageError:
            return [None]

    def _token_of(self, kind: str) -> tuple[str | None, int | None]:
        """Return what stands for a medium in texts, and the first id among the tokens.

        Of images and sounds both are the placeholder of their first reader.
        """
        first = self._tokens_of(kind)[0]
        if first is None or kind == "video":
            return None if first is None else f"<|{kind}|>", first
        return self.tokenizer.convert_ids_to_tokens(first), first

    image_token = property(lambda self: self._token_of("image")[0])
    image_token_id = property(lambda self: self._token_of("image")[1])
    video_token = property(lambda self: self._token_of("video")[0])
    video_token_id = property(lambda self: self._token_of("video")[1])
    audio_token = property(lambda self: self._token_of("audio")[0])
    audio_token_id = property(lambda self: self._token_of("audio")[1])
    image_token_ids = property(lambda self: self._tokens_of("image"))
    video_token_ids = property(lambda self: self._tokens_of("video"))
    audio_token_ids = property(lambda self: self._tokens_of("audio"))


def _options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a call, out of transformers' groups.

    Raises:
        ValueError: one is unknown, or asks for other preprocessing than the checkpoint's.
    """
    found = {k: v for k, v in kwargs.items() if k not in _GROUPS}
    for group in _GROUPS:
        found |= kwargs.get(group) or {}
    found = {k: v for k, v in found.items() if v is not None}
    if unknown := sorted(set(found) - _OPTIONS):
        raise ValueError(
            f"unknown option {unknown[0]!r}: this processor takes {', '.join(sorted(_OPTIONS))}; "
            "how media are preprocessed is the checkpoint's own"
        )
    if found.get("sampling_rate", RATE) != RATE:
        raise ValueError(f"resample audio arrays to {RATE} Hz, or pass files, which say their rate")
    if not found.get("do_sample_frames", True):  # all there are
        found |= {"fps": 1000, "max_frames": 65_535}
    if "num_frames" in found:  # evenly, however long the video is
        found |= {"fps": 1000, "max_frames": found["num_frames"]}
    return found


def _filled(rows: list[list[int]], filler: int, options: dict[str, Any]) -> list[list[int]]:
    """Return rows of the lengths that `padding`, `max_length` and `pad_to_multiple_of` ask for.

    Raises:
        ValueError: an option has no such value.
    """
    padding, side = options.get("padding", False), options.get("padding_side", "left")
    if side not in ("left", "right"):
        raise ValueError(f"padding_side is left or right, not {side!r}")
    lengths = [len(row) for row in rows]
    if padding == "max_length":
        if "max_length" not in options:
            raise ValueError("padding to max_length needs max_length, in tokens")
        lengths = [max(length, options["max_length"]) for length in lengths]
    elif padding in (True, "longest"):
        lengths = [max(lengths)] * len(rows)
    elif padding not in (False, "do_not_pad"):
        raise ValueError(f"padding is True, longest, max_length or do_not_pad, not {padding!r}")
    multiple = options.get("pad_to_multiple_of", 1) if padding else 1
    spare = [[filler] * (-(-length // multiple) * multiple - len(row))
             for row, length in zip(rows, lengths, strict=True)]  # fmt: skip
    pairs = zip(spare, rows, strict=True) if side == "left" else zip(rows, spare, strict=True)
    return [first + last for first, last in pairs]
