"""What a row says as an answer: text as it is, other values as text, one of many."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

TEXT_KEYS = ("answer", "text", "caption", "raw")  # of an answer that is an object


def plain(value: Any) -> str | None:
    """Return a value as text, None where it says nothing.

    Text stays as it is, to the last blank; numbers, true and false are written as in JSON.
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Decimal | date | datetime | time):
        return str(value)
    return None


def one_of(value: Any) -> tuple[str | None, bool]:
    """Return an answer as text and whether there were others: of a list, the most frequent.

    Of equally frequent ones the first. An object counts as what is under one of TEXT_KEYS (as in
    the lists of VQAv2, or SQuAD's object of lists), else as its JSON text.
    """
    if isinstance(value, Mapping):
        key = next((key for key in TEXT_KEYS if key in value), None)
        if key is not None:
            return one_of(value[key])
        return (json.dumps(value, ensure_ascii=False, default=str) if value else None), False
    if isinstance(value, list):
        texts = [text for text, _ in map(one_of, value) if text is not None]
        if not texts:
            return None, False
        counts = Counter(texts)
        return counts.most_common(1)[0][0], len(counts) > 1
    return plain(value), False
