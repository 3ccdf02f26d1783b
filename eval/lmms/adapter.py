"""Our model behind lmms-eval's chat interface. Importing this module imports lmms-eval."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni.generation.settings import Generation
from omni.media.decode import MediaError
from omni.processing.messages import image

from ..answering.answerer import Answerer, Messages
from .bridge import prepare
from .decoding import frames, why_broken
from .docs import UnaskableError

prepare()  # before the first lmms_eval import: see there

from lmms_eval.api.instance import Instance  # noqa: E402
from lmms_eval.api.model import lmms  # noqa: E402

USUAL = 64  # new tokens where a task does not say
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ChatModel(lmms):
    """Turns official requests into our messages and sends them through an `Answerer`.

    `blind` removes every image. `cap` bounds the new tokens below the task's own limit: an early
    checkpoint that never ends its answer would otherwise write 1024 tokens for one letter. `most`
    takes the place of both. `docs` are the task's docs as the split numbers them.

    No stop string ends an answer: lmms-eval adds a blank line to the tasks that name none, but its
    chat models, with one exception, heed neither that nor a task's own.

    What the official code is handed can be written to any file; `written` has by doc the answers
    that could not.

    A doc that cannot be asked, for a damaged image or an empty column, is answered "" and named in
    `answerer.problems`.
    """

    is_simple = False
    accelerator = None  # ranks share the work in the `Answerer`; here there is one process

    def __init__(
        self, answerer: Answerer, blind: bool, cap: int, docs: Sequence[int], most: int | None
    ) -> None:
        super().__init__()
        self.answerer = answerer
        self.blind = blind
        self.cap = cap
        self.docs = docs
        self.most = most
        self.written: dict[int, str] = {}
        self.answered = False
        self.longest = 0  # new tokens: the limit in force
        self.official = 0  # the task's own, where it has one

    def generate_until(self, requests: list[Instance]) -> list[str]:
        groups: dict[Generation, list[Instance]] = {}
        for request in requests:
            groups.setdefault(self._limited(request.arguments[2]), []).append(request)
        texts: dict[int, str] = {}
        for generation, group in groups.items():
            conversations = Conversations(self, group)
            answers = self.answerer(conversations, generation, conversations.names)
            texts |= {id(request): text for request, text in zip(group, answers, strict=True)}
        self.answered = True
        return [self._clean(request, texts[id(request)]) for request in requests]

    def _clean(self, request: Instance, text: str) -> str:
        clean = writable(text)
        if clean != text:
            self.written[self.docs[int(request.doc_id)]] = text
        return clean

    def _limited(self, wanted: dict[str, Any]) -> Generation:
        """The tokens a task asks for, within `cap`; how they are drawn is not for tasks to say."""
        official = wanted.get("max_new_tokens")
        most = self.most or min(int(official or USUAL), self.cap)
        self.official = max(self.official, int(official or 0))
        self.longest = max(self.longest, most)
        return Generation(most)

    def clean(self) -> None:
        """Keep everything: the inherited method deletes the model's modules after a run."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("chat tasks only generate")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("multi-round tasks are not supported")


class Conversations(Sequence[Messages]):
    """The messages of requests, made when asked for: thousands of pictures are not held at once."""

    def __init__(self, chat: ChatModel, requests: list[Instance]) -> None:
        self.chat, self.requests = chat, requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, number: Any) -> Any:
        arguments: tuple[Any, ...] = self.requests[number].arguments
        _, doc_to_messages, _, doc_id, task, split = arguments
        try:
            doc = self.chat.task_dict[task][split][doc_id]
            return convert(doc_to_messages(doc), self.chat.blind)
        except MediaError:
            raise
        except (Exception, SystemExit) as error:  # official code leaves over a missing video
            raise UnaskableError(f"{type(error).__name__}: {error}") from error

    @property
    def names(self) -> list[str]:
        docs = self.chat.docs
        return [f"{request.task_name}:{docs[int(request.doc_id)]}" for request in self.requests]


def writable(text: str) -> str:
    """Text as sheets, XML and UTF-8 hold it: a space in place of control characters and the like.

    https://www.w3.org/TR/xml/#charsets says which.
    """
    return UNWRITABLE.sub(" ", text)


def convert(messages: list[dict[str, Any]], blind: bool = False) -> Messages:
    """lmms-eval's {type, url} parts as ours; with `blind`, without images and videos.

    Raises:
        MediaError: an image or a sound could not be read.
    """
    converted = []
    for turn in messages:
        parts = []
        for part in turn["content"]:
            if part["type"] == "text":
                parts.append(part)
            elif reason := why_broken(part["url"]):
                raise MediaError(reason)
            elif blind and part["type"] in ("image", "video"):
                continue
            elif part["type"] == "video" and Path(part["url"]).is_dir():
                parts += [image(frame) for frame in frames(Path(part["url"]))]
            else:
                parts.append({"type": part["type"], part["type"]: part["url"]})
        converted.append({"role": turn["role"], "content": parts})
    return converted
