"""What others published, from one data file with the source of every number."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ..benchmarks import EVERY, IMAGE10


@dataclass(frozen=True)
class Published:
    """`models`: title -> rows in the form of rows.json, with `mark` and `note` of their source."""

    source: str
    marks: dict[str, str]
    """mark -> what it says of a number"""
    mean_of: dict[str, str]
    """benchmark -> title, of those whose mean is the headline, in the order of the paper"""
    models: dict[str, list[dict[str, Any]]]

    def rows(self, model: str) -> list[dict[str, Any]]:
        """The rows of one model.

        Raises:
            ValueError: unknown; lists the known ones.
        """
        if model not in self.models:
            raise ValueError(f"no published rows of {model!r}; there are: {', '.join(self.models)}")
        return self.models[model]


@cache
def published() -> Published:
    """Read published.yaml."""
    import yaml

    file = files("eval.report").joinpath("published.yaml")
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    sources, titles = found["sources"], {b.name: b.title for b in EVERY}

    def row(name: str, value: Any) -> dict[str, Any]:
        entry = value if isinstance(value, dict) else {"score": value}
        source = sources[entry.get("from", "rerun")]
        return {
            "name": name, "title": titles[name], "score": float(entry["score"]),
            "mark": source["mark"], "source": source["text"], "note": entry.get("note", ""),
        }  # fmt: skip

    models = {
        model: [row(name, value) for name, value in rows.items()]
        for model, rows in found["models"].items()
    }
    marks = {source["mark"]: source["text"] for source in sources.values() if source["mark"]}
    mean_of = {b.name: b.title for b in IMAGE10}
    return Published(found["source"].strip(), marks, mean_of, models)
