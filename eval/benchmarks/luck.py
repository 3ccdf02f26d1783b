"""Official scorers that draw a random answer where they find none in an answer."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

NO_DRAW = "an answer that names no option is wrong, where the official code draws one"


class NothingFoundError(Exception):
    """Raised in place of the draw."""


def without_luck(
    module: str, process: str, wrong: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[], dict[str, Any]]:
    """Overrides with which an answer that names no option is wrong, run for run the same.

    Args:
        module: lmms-eval's, in which `random.choice` is called.
        process: its `process_results`.
        wrong: doc -> what `process` returns for a wrong answer.
    """

    def overrides() -> dict[str, Any]:
        utils: Any = import_module(f"lmms_eval.tasks.{module}.utils")
        utils.random = SimpleNamespace(choice=_refuse)

        def score(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
            try:
                return getattr(utils, process)(doc, results)
            except NothingFoundError:
                return wrong(doc)

        return {"process_results": score}

    return overrides


def _refuse(options: Any) -> str:
    raise NothingFoundError
