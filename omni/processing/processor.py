"""Messages -> tensors: the only place that does it, for training, evaluation and chat alike."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from ..encoders import encoder_class, readers
from ..model.auto import SavesCode, auto_map
from ..model.config import OmniConfig
from ..model.encoded import Encoded, PlaceholderError
from ..model.head import IGNORE_INDEX
from ..projectors import item_lengths
from .batch import Batches
from .calls import ProcessorCalls
from .clips import ShowsVideo
from .costs import Costs
from .literal import special_tokens, stand_ins, tokenize
from .messages import SAMPLING, Message, MessageError, assistant, user, validate
from .spoken import Speaks
from .template import default_template, flatten, placeholder, render, segments, texts_of

Shown = dict[Any, tuple[Any, str, dict[str, list]]]
"""a medium's ref, the text that stands for it, and its tensors by modality"""


class OmniProcessor(SavesCode, Speaks, Batches, Costs, ShowsVideo, ProcessorCalls):
    """A tokenizer and the preprocessing of every attached modality.

    `processor(text=..., images=...)` and `apply_chat_template(messages, ...)` behave as in
    transformers; `encode`, `pack` and `pad` are what the trainer and the evaluation are made of.

    A video is shown as images, each after the time at which it was taken ("1.5s") and before the
    sound of that time; `video` says how where a part does not, see `clips.ShowsVideo.show_video`.

    `hears` names the modality that reads all audio, such as a codec: then sound is codes, those of
    users as those of answers. Without it, all modalities of audio read what users say.
    """

    def __init__(
        self,
        tokenizer: Any,
        modalities: dict | None = None,
        chat_template: str | None = None,
        video: dict | None = None,
        hears: str | None = None,
    ):
        super().__init__(tokenizer, chat_template=chat_template or default_template(tokenizer))
        self.auto_map = auto_map("AutoProcessor", of="OmniProcessor")
        self.modalities = modalities or {}
        self.show_video(video)
        self.hears = hears

    def to_dict(self) -> dict[str, Any]:
        """Leave out the class: AutoProcessor then goes by the config, which registers it."""
        return {k: v for k, v in super().to_dict().items() if k != "processor_class"}

    def _complete(self, folder: Path) -> None:
        """Let the class be named by `auto_map` alone."""
        super()._complete(folder)
        file = folder / "tokenizer_config.json"
        settings = {k: v for k, v in json.loads(file.read_text()).items() if k != "processor_class"}
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def add_placeholder(self, name: str) -> int:
        """Give the modality a token of its own and return its id.

        The id needs no row in the LLM's embedding: the model never looks it up.
        """
        self.tokenizer.add_special_tokens(
            {"additional_special_tokens": [placeholder(name)]}, replace_extra_special_tokens=False
        )
        return self.tokenizer.convert_tokens_to_ids(placeholder(name))

    def encode(
        self,
        messages: list[Message],
        generation: bool = False,
        labels_from: int = 0,
        shown: Shown | None = None,
        **variables: Any,
    ) -> Encoded:
        """Turn one conversation into tensors; labels are on assistant turns only.

        Args:
            messages: see `messages.py`; media refs are bytes, paths, PIL images or arrays.
            generation: end with the header of an assistant turn instead of labels.
            labels_from: the number of the first message that may have labels.
            shown: media of conversations that belong together, such as two answers to one
                prompt; what is in it already is not preprocessed again, the rest is added.
            variables: of the chat template; or `chat_template` itself, instead of the own.

        Raises:
            MessageError: the messages break the contract, or use a modality that is not attached.
            MediaError: a media part cannot be decoded within the limits.
        """
        validate(messages)
        self._check_voice(messages)
        media: dict[str, list[dict[str, torch.Tensor]]] = {}
        standing = stand_ins(self.tokenizer, texts_of(messages))
        show = partial(self._show, media, shown)
        flat = flatten(messages, show, standing)
        found = self._segments(flat, generation, **variables)
        ids: list[int] = []
        labels: list[int] = []
        rows = tokenize(self.tokenizer, [text for text, _ in found], standing)
        silent = sum(m["role"] == "assistant" for m in messages[:labels_from])
        for tokens, (_, is_answer) in zip(rows, found, strict=True):
            ids += tokens
            taught = is_answer and silent <= 0
            labels += self._labels(tokens) if taught else [IGNORE_INDEX] * len(tokens)
            silent -= is_answer
        encoded = Encoded(torch.tensor(ids), torch.tensor(labels), media)
        self.check_placeholders(encoded)
        return encoded

    def _show(self, media: dict[str, list], shown: Shown | None, part: dict[str, Any]) -> str:
        """Preprocess a medium and return the text with placeholders that stands for it."""
        ref, shown = part[part["type"]], {} if shown is None else shown
        key = part["type"], id(ref), *(part.get(option) for option in SAMPLING)
        if key not in shown:
            shown[key] = ref, *self._preprocess(part)  # which keeps `ref`, and so its id
        _, text, items = shown[key]
        for name, several in items.items():
            media.setdefault(name, []).extend(several)
        return text

    def _preprocess(self, part: dict[str, Any]) -> tuple[str, dict[str, list]]:
        """Return what stands for a medium, and its tensors by modality."""
        kind = part["type"]
        self._readers(kind)
        pieces = self.clip(part) if kind == "video" else [("", kind, part[kind])]
        text, items = "", {}
        for stamp, medium, piece in pieces:
            text += stamp
            for name, config in self._readers(medium).items():
                item = encoder_class(config["encoder"]).preprocess(config["encoder"], piece)
                items.setdefault(name, []).append(item)
                text += placeholder(name) * sum(item_lengths(config, item))
        return text, items

    def _readers(self, kind: str) -> Mapping[str, dict[str, Any]]:
        """Return the modalities that read a kind of part, whose tokens follow one another."""
        found = readers(self.modalities, "image" if kind == "video" else kind)
        if kind == "audio" and self.hears and self.hears in found:
            return {self.hears: found[self.hears]}
        if found:
            return found
        have = ", ".join(self.modalities) or "none"
        raise MessageError(f"there is {kind}, but the model has no encoder for it (has: {have})")

    def _segments(
        self, flat: list[dict[str, str]], generation: bool, **variables: Any
    ) -> list[tuple[str, bool]]:
        """Cut the rendered conversation where labels begin and end.

        Each segment is tokenised by itself, so a prompt has the same tokens in training and in
        generation. What a template prints after an answer's end marker carries no label.
        """
        if variables.get("continue_final_message"):
            return [(self._render(flat, False, **variables), False)]
        return segments(flat, generation, partial(self._render, **variables), self._end_of)

    def _render(self, flat: list[dict[str, str]], generation: bool, **variables: Any) -> str:
        variables = {**self.tokenizer.special_tokens_map, **variables}
        template = variables.pop("chat_template", self.chat_template)
        return render(template, flat, generation, **variables)

    def _end_of(self, tail: str) -> int:
        """Return where the end marker ends in what is printed after an answer.

        That is the end-of-text token, or else the last special token there, or else all the words.
        """
        eos = self.tokenizer.eos_token
        if eos and eos in tail:
            return tail.index(eos) + len(eos)
        specials = special_tokens(self.tokenizer).within(tail)
        return tail.rindex(specials[-1]) + len(specials[-1]) if specials else len(tail.rstrip())

    def reply(self, prompt: list[Message], message: Message) -> tuple[list[int], list[int]]:
        """Return the tokens that follow an answer up to the header of the next one.

        An answer that was generated keeps its tokens: to encode its text would make others.

        Args:
            prompt: what was answered; its media are not read.
            message: the next turn, of text.

        Returns:
            What ends an answer, which a generated one may have already, and all that follows it.
        """
        talk = [*prompt, assistant("y"), message]
        standing = stand_ins(self.tokenizer, texts_of(talk))
        found = self._segments(flatten(talk, lambda part: "", standing), True)
        (answer, _), (rest, _) = found[-2:]
        end, following = tokenize(self.tokenizer, [answer[answer.index("y") + 1 :], rest], standing)
        return end, following

    @property
    def end_of_turn(self) -> str:
        """Return what ends an answer: what the template prints after one, before the next turn.

        It is labelled, so a trained model says it; "" if the template prints nothing there.
        """
        talk = [user("x"), assistant("y"), user("x"), assistant("y")]
        answer = next(t for t, is_answer in self._segments(flatten(talk, str), False) if is_answer)
        return answer[answer.rindex("y") + 1 :]

    @property
    def ends(self) -> tuple[list[int], str]:
        """Return what stops generation: tokens, and words where `end_of_turn` is not a token."""
        marker = self.end_of_turn
        ids = self.tokenizer(marker, add_special_tokens=False)["input_ids"]
        special = special_tokens(self.tokenizer).ids.values()
        token = ids[-1:] if len(ids) == 1 or (ids and ids[-1] in special) else []
        eos = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        return sorted({*token, *eos}), "" if token else marker.strip()

    def check_placeholders(self, encoded: Encoded) -> None:
        """Raise PlaceholderError where media and the tokens that stand for them do not agree."""
        for name, config in self.modalities.items():
            found = int((encoded.input_ids == config["token_id"]).sum())
            wanted = sum(n for i in encoded.media.get(name, []) for n in item_lengths(config, i))
            if found != wanted:
                raise PlaceholderError(
                    f"{found} {placeholder(name)} placeholders for {wanted} {name} features: the "
                    "chat template drops, repeats or prints placeholders"
                )

    def shown(self, messages: list[Message], generation: bool = False, **variables: Any) -> str:
        """Render a conversation with single markers for its media, which need not be there."""
        flat = flatten(messages, lambda part: self.marker(part["type"]))
        return self._render(flat, generation, **variables)


AutoProcessor.register(OmniConfig, OmniProcessor)
