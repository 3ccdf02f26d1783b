"""Chat templates: how a conversation becomes one text."""

from functools import lru_cache
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

# ChatML without a default system prompt: twenty tokens saved in every short sample
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@lru_cache
def compile_template(template: str) -> Any:
    """Compile as transformers does, but once; a template comes with a model and is not trusted."""
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)


def default_template(tokenizer: Any) -> str:
    """Return ChatML where the tokenizer has its tokens, else the tokenizer's own template.

    Raises:
        ValueError: it has neither.
    """
    known = tokenizer.get_vocab()
    if "<|im_start|>" in known and "<|im_end|>" in known:
        return CHATML
    if tokenizer.chat_template:
        return tokenizer.chat_template
    raise ValueError(
        "the tokenizer has neither ChatML tokens nor a chat template: pass chat_template"
    )
