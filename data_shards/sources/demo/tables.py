"""Short tables of names and numbers: real ones where `vega_datasets` is there, drawn ones else."""

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .words import MONTHS

FEWEST, MOST = 3, 5  # rows of a table that is drawn


@dataclass(frozen=True)
class Table:
    """Whole numbers by name, no two alike; `ordered` names go on from one to the next."""

    topic: str
    title: str
    values: dict[str, int]
    ordered: bool = False


@dataclass(frozen=True)
class Topic:
    """Where tables of one kind come from; a topic is in training or held out, never both."""

    name: str
    make: Callable[[random.Random], tuple[str, dict[str, int]]]
    ordered: bool = False

    def table(self, rng: random.Random) -> Table:
        """Return a few rows, one after the other where they are ordered."""
        title, values = self.make(rng)
        names, size = list(values), rng.randint(FEWEST, MOST)
        if self.ordered:
            start = rng.randint(0, max(0, len(names) - size))
            chosen = names[start : start + size]
        else:
            chosen = rng.sample(names, min(size, len(names)))
        kept: dict[str, int] = {}
        for name in chosen:
            if values[name] not in kept.values():  # of two equal ones neither would be the most
                kept[name] = values[name]
        if len(kept) < FEWEST:
            return self.table(rng)
        return Table(self.name, title, kept, self.ordered)


SHORT_MONTHS = tuple(month[:3] for month in MONTHS)
WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# title -> names, and whether they are in order; the numbers are drawn
NAMES = {
    "Goals": ("Reds", "Blues", "Greens", "Lions", "Bears", "Hawks", "Kings", "Stars"),
    "Books read": ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ida"),
    "Pets": ("cats", "dogs", "birds", "fish", "mice", "frogs", "ponies", "hens"),
    "Fruit sold": ("plums", "pears", "limes", "kiwis", "figs", "dates", "grapes", "melons"),
    "Trees": ("oak", "elm", "pine", "birch", "beech", "larch", "ash", "cedar"),
    "Votes": ("Adams", "Baker", "Clark", "Davis", "Evans", "Fox", "Green", "Hill"),
    "Cups of tea": WEEK,
    "Rainy days": SHORT_MONTHS,
    "Guests": tuple(f"day {number}" for number in range(1, 10)),
    "Trains": tuple(f"{hour}:00" for hour in range(6, 20)),
    "Miles run": ("week 1", "week 2", "week 3", "week 4", "week 5", "week 6", "week 7"),
    "Pupils": ("class 1", "class 2", "class 3", "class 4", "class 5", "class 6"),
    "Coins": ("Spain", "Italy", "Peru", "Chile", "Japan", "India", "Kenya", "Cuba"),
    "Boats": ("Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Paris", "Dublin", "Quito"),
}
ORDERED = ("Cups of tea", "Rainy days", "Guests", "Trains", "Miles run", "Pupils")


def drawn_topics() -> list[Topic]:
    """Topics with names from lists and numbers from a range."""

    def topic(title: str) -> Topic:
        def make(rng: random.Random) -> tuple[str, dict[str, int]]:
            names = NAMES[title]
            top = rng.choice((30, 90, 900))
            return title, dict(zip(names, rng.sample(range(2, top), len(names)), strict=True))

        return Topic(title, make, title in ORDERED)

    return [topic(title) for title in NAMES]


def real_topics() -> list[Topic]:
    """Topics of the package vega_datasets, none where it is not installed."""
    try:
        from vega_datasets import local_data  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []

    def topic(name: str, sets: dict[str, dict[str, int]]) -> Topic:
        def make(rng: random.Random) -> tuple[str, dict[str, int]]:
            title = rng.choice(sorted(sets))
            return title, sets[title]

        return Topic(name, make, name in REAL_ORDERED)

    with warnings.catch_warnings():  # it reads its files as older versions of pandas did
        warnings.simplefilter("ignore")
        frames = _frames(local_data)
    return [topic(name, _sets(frame)) for name, frame in frames.items()]


REAL_ORDERED = ("Wheat", "Miles driven", "Warmth")


def _frames(data: Any) -> dict[str, Any]:
    """Return by topic a frame with the columns title, name and number."""
    deaths = data.crimea().melt("date", var_name="name", value_name="number")
    days = data.seattle_weather()
    days = days.assign(year=days["date"].dt.year, month=days["date"].dt.month - 1)
    kinds = days.groupby(["year", "weather"]).size().rename("number").reset_index()
    warmth = days.groupby(["year", "month"])["temp_max"].mean().reset_index()
    cars = data.cars().assign(year=lambda rows: rows["Year"].dt.year)
    cars = cars.groupby(["year", "Origin"])["Horsepower"].mean().reset_index()
    power, stocks, barley = data.iowa_electricity(), data.stocks(), data.barley()
    airports = data.airports()["state"].value_counts().rename("number").reset_index()
    wheat, driving = data.wheat(), data.driving()
    return {
        "Barley": _frame(
            barley["variety"] + " " + barley["year"].astype(str),
            barley["site"].str.split().str[-1], barley["yield"],
        ),
        "Wheat": _frame("Cost of wheat", wheat["year"], wheat["wheat"]),
        "Miles driven": _frame("Miles driven", driving["year"], driving["miles"]),
        "Crimea": _frame(
            "Deaths " + deaths["date"].dt.strftime("%b %Y"), deaths["name"], deaths["number"]
        ),
        "Stocks": _frame(
            "Shares " + stocks["date"].dt.strftime("%b %Y"), stocks["symbol"], stocks["price"]
        ),
        "Weather": _frame(
            "Weather " + kinds["year"].astype(str), kinds["weather"], kinds["number"]
        ),
        "Warmth": _frame(
            "Warmth " + warmth["year"].astype(str),
            warmth["month"].map(SHORT_MONTHS.__getitem__), warmth["temp_max"],
        ),
        "Power": _frame(
            "Power " + power["year"].dt.strftime("%Y"),
            power["source"].str.split().str[0], power["net_generation"] / 100,
        ),
        "Cars": _frame(
            "Horsepower " + cars["year"].astype(str), cars["Origin"], cars["Horsepower"]
        ),
        "Airports": _frame("Airports", airports["state"], airports["number"]),
    }  # fmt: skip


def _frame(title: Any, name: Any, number: Any) -> Any:
    import pandas as pd

    columns = {"title": title, "name": name.astype(str), "number": number.round().astype(int)}
    return pd.DataFrame(columns)


def _sets(frame: Any) -> dict[str, dict[str, int]]:
    sets: dict[str, dict[str, int]] = {}
    for title, name, number in frame.itertuples(index=False):
        sets.setdefault(title, {})[name] = int(number)
    return {title: values for title, values in sets.items() if len(set(values.values())) >= FEWEST}
