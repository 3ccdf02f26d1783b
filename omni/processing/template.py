"""Chat templates: how a conversation becomes one text, and which of it are answers."""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from os.path import commonprefix
from types import MappingProxyType
from typing import Any

from jinja2.exceptions import SecurityError, TemplateSyntaxError
from transformers.utils.chat_template_utils import (
    _get_template_variables,  # type: ignore[reportPrivateUsage]
    render_jinja_template,
)

from .literal import hide
from .messages import Message, MessageError

log = logging.getLogger(__name__)

# ChatML without a default system prompt: twenty tokens saved in every short sample
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# for a tokenizer that has no template of its own: answers end as texts do
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def default_template(tokenizer: Any) -> str:
    """Return ChatML where the tokenizer has its tokens, else its own template, else a plain one.

    The last is said in the log.

    Raises:
        ValueError: it has none of them, and no end-of-text token with which answers could end.
    """
    known = tokenizer.get_vocab()
    if "<|im_start|>" in known and "<|im_end|>" in known:
        return CHATML
    if tokenizer.chat_template:
        return tokenizer.chat_template
    if not tokenizer.eos_token:
        raise ValueError(
            "the tokenizer has neither ChatML tokens, nor a chat template, nor an end-of-text "
            "token for a plain one: store a chat_template with it"
        )
    log.warning(
        "the tokenizer has no chat template; messages are written as 'user: ...' and "
        "'assistant: ...%s' on lines of their own. Store a chat_template with it for another form",
        tokenizer.eos_token,
    )
    return PLAIN


def render(template: str, messages: list[dict], generation: bool, **variables: Any) -> str:
    """Render a conversation in transformers' own environment; a template is not trusted.

    Raises:
        MessageError: the template refuses the conversation, or fails on it.
        SecurityError, TemplateSyntaxError: the template itself is at fault.
    """
    if wants_parts(template):
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    try:
        texts, _ = render_jinja_template(  # type: ignore[misc]
            [messages], chat_template=template, add_generation_prompt=generation, **variables
        )
    except (SecurityError, TemplateSyntaxError):
        raise
    except Exception as error:  # a template is a program: it raises what it likes
        raise MessageError(f"the chat template refuses this conversation: {error}") from error
    return texts[0]


@lru_cache
def wants_parts(template: str) -> bool:
    """Tell whether a template prints content in parts, but not content that is one text."""
    text = "a text"
    for wanted, content in ((False, text), (True, [{"type": "text", "text": text}])):
        try:
            messages = [[{"role": "user", "content": content}]]
            if text in render_jinja_template(messages, chat_template=template)[0][0]:
                return wanted
        except Exception:  # shows when a conversation is rendered
            continue
    return False


def template_variables(template: str) -> set[str]:
    """Return the names of what a template may be given."""
    return set(_get_template_variables(template))


def segments(
    flat: list[dict[str, str]],
    generation: bool,
    rendered: Callable[[list[dict[str, str]], bool], str],
    end_of: Callable[[str], int],
) -> list[tuple[str, bool]]:
    """Cut the rendered conversation where answers begin and end: (text, is it an answer?).

    An answer reaches to the end of its end marker; what the template prints after that, and what
    it prints only because nothing follows, is no part of it.

    Args:
        flat: messages, each content one text.
        generation: end with the header of an answer.
        rendered: (messages, generation) -> text.
        end_of: where the end marker ends in what is printed after an answer; 0: there is none.

    Raises:
        MessageError: the template rewrites earlier turns or answers, so they cannot be labelled.
    """
    turns = [i for i, message in enumerate(flat) if message["role"] == "assistant"]
    closed = flat[-1]["role"] == "assistant" and not generation
    prompts = [rendered(flat[:i], True) for i in turns]
    last = rendered(flat, generation)
    found: list[tuple[str, bool]] = []
    done = ""
    for n, (i, prompt) in enumerate(zip(turns, prompts, strict=True)):
        following = prompts[n + 1] if n + 1 < len(turns) else last
        full = last if closed and n + 1 == len(turns) else rendered(flat[: i + 1], False)
        end = _end_of_content(flat[i]["content"], full, prompt, i)
        common = commonprefix([full, following])  # noqa: RUF071 - by characters, as wanted
        if not (prompt.startswith(done) and full.startswith(prompt) and len(common) >= end):
            raise _unlabelled(i, "rewrites earlier turns")
        cut = end + end_of(common[end:])
        found += [(prompt[len(done) :], False), (full[len(prompt) : cut], True)]
        done = full[:cut]
    if closed:
        return found  # nothing is learnt from what the template prints after the last answer
    if not last.startswith(done):
        raise _unlabelled(len(flat) - 1, "rewrites earlier turns")
    return [*found, (last[len(done) :], False)]


def _end_of_content(content: str, full: str, prompt: str, number: int) -> int:
    """Return where an answer ends in the rendered text; a template may strip it."""
    for text in (content, content.strip()):
        if (start := full.find(text, len(prompt))) >= 0:
            return start + len(text)
    raise _unlabelled(number, "changes answers")


def _unlabelled(number: int, why: str) -> MessageError:
    return MessageError(
        f"message {number}: the chat template {why}, so answers cannot be labelled; "
        "pass another chat_template to OmniProcessor"
    )


def placeholder(name: str) -> str:
    """Return the placeholder token of a modality, e.g. `<|vision|>`."""
    return f"<|{name}|>"


def texts_of(messages: list[Message]) -> list[str]:
    """Return all that is written in a conversation."""
    return [p["text"] for m in messages for p in m["content"] if p["type"] == "text"]


def flatten(
    messages: list[Message],
    show: Callable[[dict[str, Any]], str],
    standing: Mapping[str, str] = MappingProxyType({}),
) -> list[dict]:
    """Make the content of each message one text, in which `show` stands for its media.

    Of the special tokens that its words spell, `literal.stand_ins` takes the place.
    """
    return [
        {
            "role": m["role"],
            "content": "".join(
                hide(p["text"], standing) if p["type"] == "text" else show(p) for p in m["content"]
            ),
        }
        for m in messages
    ]
