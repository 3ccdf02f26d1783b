"""Our model behind lmms-eval's chat interface. Importing this module imports lmms-eval."""

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


class ChatModel(lmms):
    """Turns official requests into our messages and sends them through an `Answerer`.

    `blind` removes every image. `cap` bounds the new tokens below the task's own limit: an early
    checkpoint that never ends its answer would otherwise write 1024 tokens for one letter. `docs`
    are the task's docs as the split numbers them.

    A doc that cannot be asked, for a damaged image or an empty column, is answered "" and named in
    `answerer.problems`.
    """

    is_simple = False
    accelerator = None  # ranks share the work in the `Answerer`; here there is one process

    def __init__(self, answerer: Answerer, blind: bool, cap: int, docs: Sequence[int]) -> None:
        super().__init__()
        self.answerer = answerer
        self.blind = blind
        self.cap = cap
        self.docs = docs
        self.answered = False
        self.longest = self.official = 0  # new tokens: the limit in force, and the task's own

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
        return [texts[id(request)] for request in requests]

    def _limited(self, wanted: dict[str, Any]) -> Generation:
        """What a task asks for, within `cap`; how tokens are drawn is not for tasks to say."""
        until = wanted.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        official = int(wanted.get("max_new_tokens", 64))
        most = min(official, self.cap)
        self.official, self.longest = max(self.official, official), max(self.longest, most)
        return Generation(most, stop)

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
