"""Calls of tools and what they returned, as text: the one way in which all of them are written.

A call is an assistant's `<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>`, a result a
user's `<tool_response>\\n...\\n</tool_response>`, and tools that a row offers stand in the system
message between `<tools>` and `</tools>`, one a line. So write the templates of many models.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .convert import RowError

CALL, RESPONSE, TOOLS = "tool_call", "tool_response", "tools"


def between(tag: str, text: str) -> str:
    """Return a text between tags, unless the row has written them already."""
    return text if f"<{tag}>" in text else f"<{tag}>\n{text}\n</{tag}>"


def called(calls: Any) -> list[str]:
    """Return the text of every call in the `tool_calls` of a turn.

    Raises:
        RowError: one has no name.
    """
    texts = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, Mapping) else None
        function = function if isinstance(function, Mapping) else call
        if not isinstance(function, Mapping) or not function.get("name"):
            raise RowError("a tool call needs a function with a name")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError):  # a model may have written it so; then it stays text
                arguments = json.loads(arguments)
        known = {"name": function["name"], "arguments": {} if arguments is None else arguments}
        texts.append(between(CALL, json.dumps(known, ensure_ascii=False)))
    return texts


def offered(tools: Any) -> str:
    """Return what the system message says of a row's tools: a list, or JSON text of one."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            return between(TOOLS, tools)
    listed = tools if isinstance(tools, list) else [tools]
    return between(TOOLS, "\n".join(json.dumps(tool, ensure_ascii=False) for tool in listed))
