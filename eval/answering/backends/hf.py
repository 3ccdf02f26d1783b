"""Any image-text-to-text model of transformers as an `Answerer`."""

from collections.abc import Mapping, Sequence
from typing import Any

from omni.generation.answer import complete
from omni.generation.settings import Generation
from omni.media.decode import load_image

from ..answerer import Answerer, Messages
from ..reply import Reply
from ..store import settings_digest, weights_fingerprint
from .opened import Opened
from .ours import device

SIZES: dict[str, int | None] = {"min_pixels": None, "max_pixels": None}
TOKENS_PER_IMAGE = 600  # a guess for the order and the size of batches; OOM halves them


def open_transformers(
    name: str, dtype: str = "", sizes: Mapping[str, int | None] = SIZES, **limits: Any
) -> Opened:
    """Load `name`, a hub id or a folder, with the dtype it was saved in on a GPU, else float32.

    Prompts are those of the processor's own chat template; a batch is padded on the left.

    Args:
        name: of the model.
        dtype: instead of that.
        sizes: `min_pixels` and `max_pixels` of a picture; None keeps the processor's own.
        limits: of `Answerer`.

    Raises:
        OSError, ValueError: transformers does not know the model, or it has no such sizes or no
            place for a system message; it says why.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    wanted = {size: pixels for size, pixels in sizes.items() if pixels is not None}
    processor: Any = AutoProcessor.from_pretrained(name, **wanted)
    check(name, processor, wanted, limits.get("system", ""))
    usual: Any = "auto" if torch.cuda.is_available() else torch.float32
    model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype or usual)
    model = model.eval().to(device())
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token

    def encode(batch: list[Messages]) -> Any:
        return processor.apply_chat_template(
            [as_chat(messages) for messages in batch], add_generation_prompt=True, tokenize=True,
            return_dict=True, return_tensors="pt", processor_kwargs={"padding": True},
        )  # fmt: skip

    def answer_batch(batch: Any, generation: Generation, keys: Sequence[str]) -> list[Reply]:
        batch = batch.to(model.device, model.dtype)
        found = complete(model, processor, batch, generation, keys=keys)
        return [Reply(one.text, one.finish, thinking=one.thinking) for one in found]

    answerer = Answerer(
        answer_batch,
        cost,
        encode=encode,
        settings=settings_digest(model, *_preprocessing(processor)),
        loaded={"dtype": str(model.dtype).removeprefix("torch."), **wanted},
        reads=frozenset({"image"}),
        **limits,
    )
    return Opened(answerer, weights_fingerprint(model))


def check(name: str, processor: Any, sizes: Mapping[str, int], system: str) -> None:
    """Refuse what the processor would pass over in silence.

    Raises:
        ValueError: see `open_transformers`.
    """
    pictures = getattr(processor, "image_processor", None)
    known = getattr(getattr(pictures, "valid_kwargs", None), "__annotations__", {})
    if unknown := [size for size in sizes if size not in known and not hasattr(pictures, size)]:
        option = unknown[0].replace("_", "-")
        raise ValueError(f"--{option}: {name} takes no such size ({type(pictures).__name__})")
    if not system:
        return
    asked = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("system", system), ("user", "?"))
    ]
    try:
        shown = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # templates refuse with exceptions of their own
        raise ValueError(f"--system: the chat template of {name} refuses it: {error}") from error
    if system.strip() not in shown:
        raise ValueError(f"--system: the chat template of {name} leaves it out")


def _preprocessing(processor: Any) -> tuple[Any, ...]:
    """What makes tensors of words and pictures; its own json leaves out tokenizer and template."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend else tokenizer.get_vocab()
    return processor.to_json_string(), processor.chat_template, tokenizer.chat_template, words


def cost(messages: Messages) -> int:
    """Estimate tokens."""
    parts = [part for turn in messages for part in turn["content"]]
    letters = sum(len(part.get("text", "")) for part in parts)
    return letters // 4 + TOKENS_PER_IMAGE * sum(part["type"] == "image" for part in parts)


def as_chat(messages: Messages) -> list[dict[str, Any]]:
    """Our messages as chat templates of transformers have them, images decoded."""
    return [
        {
            "role": turn["role"],
            "content": [
                {"type": "image", "image": load_image(part["image"])}
                if part["type"] == "image"
                else part
                for part in turn["content"]
            ],
        }
        for turn in messages
    ]
