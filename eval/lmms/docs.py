"""Which docs of an official task are asked: those that can be scored, or some of them."""

import logging
import random
from collections.abc import Sequence
from typing import Any

from ..rows.own import SEED, MissingDataError
from .benchmark import Benchmark

log = logging.getLogger(__name__)


class UnaskableError(ValueError):
    """A doc of which the official code can make no question."""


def scorable(task: Any, benchmark: Benchmark) -> tuple[list[int], list[str]]:
    """Let the official code take every doc's true answer, before a model spends hours on them.

    Returns the docs that it takes without an error, and in words those that it does not. What the
    answer scores is not looked at here: some codes say so only of all docs together.

    Raises:
        MissingDataError: it can score none; names the missing column if that is the reason.
    """
    usable, unusable, errors = [], [], []
    for number, doc in enumerate(task.dataset_no_image[benchmark.split]):
        try:
            task.process_results(dict(doc), [benchmark.truth(doc)])
            usable.append(number)
        except Exception as error:
            unusable.append(f"{benchmark.task}:{number}: {type(error).__name__}: {error}")
            errors.append(error)
    try:
        task.doc_to_messages(task.dataset[benchmark.split][0])
    except KeyError as error:
        errors.insert(0, error)
    except (Exception, SystemExit) as error:  # of this doc alone, and named when it is asked
        log.debug("%s: the first doc: %s", benchmark.name, error)
    columns = task.dataset[benchmark.split].column_names
    if errors and isinstance(errors[0], KeyError) and errors[0].args[0] not in columns:
        raise MissingDataError(
            f"{benchmark.title}: the column {errors[0]} is missing; there is: {', '.join(columns)}"
        )
    if not usable:
        raise MissingDataError(f"{benchmark.title}: no doc can be scored: {unusable[0]}")
    return usable, unusable


def keep(
    task: Any, benchmark: Benchmark, usable: Sequence[int], limit: int | None
) -> Sequence[int]:
    """Cut a task down to `limit` units of the usable docs; returns which docs are left.

    Spread over the split, because public files are sorted by subject; whole units, because a
    circular question with some of its copies is another question.
    """
    if limit is not None:
        units = units_of(task, benchmark, usable)
        step = max(1.0, len(units) / limit)
        chosen = [units[int(k * step)] for k in range(min(limit, len(units)))]
        usable = sorted(number for unit in chosen for number in unit)
    _select(task, benchmark, usable)
    return usable


def draw(task: Any, benchmark: Benchmark, docs: Sequence[int], most: int) -> Sequence[int]:
    """Cut a task down to `most` units, drawn with a seed; returns which of its docs are left."""
    units = units_of(task, benchmark, range(len(docs)))
    if len(units) <= most:
        return docs
    places = sorted(place for unit in random.Random(SEED).sample(units, most) for place in unit)
    _select(task, benchmark, places)
    return [docs[place] for place in places]


def units_of(task: Any, benchmark: Benchmark, places: Sequence[int]) -> list[list[int]]:
    """Places in the split by what is scored together."""
    docs = task.dataset_no_image[benchmark.split]
    units: dict[Any, list[int]] = {}
    for place in places:
        unit = benchmark.unit(docs[place]) if benchmark.unit else place
        units.setdefault(unit, []).append(place)
    return list(units.values())


def _select(task: Any, benchmark: Benchmark, places: Sequence[int]) -> None:
    if len(places) < len(task.dataset_no_image[benchmark.split]):
        for held in (task.dataset, task.dataset_no_image):
            held[benchmark.split] = held[benchmark.split].select(places)


def forgive(task: Any) -> list[str]:
    """Let an answer that the official code fails over count as an empty one.

    Returns a list that will say of each such answer what failed.
    """
    process, failed = task.process_results, []

    def process_results(doc: dict[str, Any], results: list[Any], **more: Any) -> Any:
        try:
            return process(doc, results, **more)
        except Exception as error:
            found = process(doc, [""] * len(results), **more)  # else the doc is at fault
            failed.append(f"{type(error).__name__}: {error}")
            return found

    task.process_results = process_results
    return failed
