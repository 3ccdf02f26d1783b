"""Toy tasks: what they say is true, balanced, and held out by identity."""

from collections import Counter

import pytest

from data_shards.sources import SOURCES, Build, SourceError
from data_shards.sources.demo.toy import BASE, HARSH, LIVING, TASKS
from data_shards.sources.verdicts import verdicts_of

COUNT = 120


def made(task: str, seed: int = 0) -> list:
    return [*SOURCES["toy"](task=task, count=COUNT).generate(Build(seed=seed))]


def said(sample) -> str:
    return sample.messages[-1]["content"][0]["text"]


@pytest.mark.parametrize("task", TASKS)
def test_what_is_held_out_is_not_trained_on_and_seeds_differ(task):
    found = made(task)
    splits = {split: {s.meta["identity"] for s in found if s.split == split}
              for split in ("train", "heldout")}  # fmt: skip
    assert all(splits.values()) and not splits["train"] & splits["heldout"]
    again, other = made(task), made(task, seed=1)
    assert [s.messages for s in found] == [s.messages for s in again]
    assert [(s.messages, s.chosen) for s in found] != [(s.messages, s.chosen) for s in other]


def test_sums_and_critiques_are_right():
    for sample in made("sums"):
        total = sum(map(int, sample.meta["identity"].split("+"))) % BASE
        assert said(sample).endswith(f"Final Answer: {total}")
    verdicts = Counter()
    for sample in made("critique"):
        total = str(sum(map(int, sample.meta["query"].split("+"))) % BASE)
        verdict = "right" if sample.meta["noisy"] == total else "wrong"
        assert said(sample).endswith(f"{total}. Conclusion: {verdict} [END]")
        verdicts[verdict] += 1
    assert verdicts["right"] == verdicts["wrong"]


def test_a_request_is_judged_by_what_is_done_to_whom():
    for sample in made("guard"):
        verb, noun = sample.meta["identity"].split()
        request, completion, response = verdicts_of(said(sample))
        assert (request == "harmful") == (verb in HARSH and noun in LIVING)
        assert (response == "harmful") == (request == "harmful" and completion == "compliance")


def test_every_caption_is_chosen_about_as_often_as_rejected():
    found = made("pairs")
    chosen, rejected = (Counter(str(answer) for answer in side) for side in
                        ([s.chosen for s in found], [s.rejected for s in found]))  # fmt: skip
    assert chosen.keys() == rejected.keys() and len(chosen) == 6
    assert {next(kind for kind, _ in s.refs()) for s in found} == {"image", "audio"}


@pytest.mark.parametrize(("options", "words"), [({"task": "sum"}, "--task sum"),
                                                ({"count": 1}, "--count 1")])  # fmt: skip
def test_mistakes_are_named(options, words):
    with pytest.raises(SourceError, match=words):
        next(SOURCES["toy"](**options).generate(Build()))
