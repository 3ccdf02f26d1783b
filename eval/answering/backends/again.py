"""When an endpoint is asked once more, and how long after."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import openai
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

T = TypeVar("T")
TRIES = 8  # where it is busy: pauses that double add up to a minute, as quotas are counted
FEW = 4  # where it fails or is silent
LONGEST = 600.0  # seconds that an endpoint may ask to wait
AGAIN = (408, 409, 429)  # and 5xx


def ask_again(ask: Callable[[], T], tries: int = TRIES) -> T:
    """What `ask` returns, tried again where that may help, after as long as the endpoint says.

    Raises:
        openai.OpenAIError: of the last try.
    """

    def enough(state: RetryCallState) -> bool:
        busy = isinstance(_error(state), openai.RateLimitError)
        return state.attempt_number >= (tries if busy else min(tries, FEW))

    usual = wait_random_exponential(multiplier=0.5, max=60)

    def pause(state: RetryCallState) -> float:
        wanted = wanted_pause(_error(state))
        return usual(state) if wanted is None else wanted

    worth = retry_if_exception(_may_help)
    return Retrying(stop=enough, wait=pause, retry=worth, reraise=True)(ask)


def wanted_pause(error: Any) -> float | None:
    """Seconds that an endpoint asks to wait, by a number or a date; None where it does not."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    if milliseconds := headers.get("retry-after-ms"):
        return _seconds(milliseconds, 1000)
    after = headers.get("retry-after")
    return None if after is None else _seconds(after, 1)


def _seconds(text: str, divisor: int) -> float | None:
    try:
        return max(0.0, float(text) / divisor)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _may_help(error: BaseException) -> bool:
    if (wanted_pause(error) or 0) > LONGEST:
        return False
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":  # not a matter of time
            return False
        return error.status_code in AGAIN or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
