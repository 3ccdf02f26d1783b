"""What a run's folder tells of it, finished or not."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from omni.files.jsonl import read_lines

from ..recipe.rule import Lora

# of log.jsonl: where a stage keeps it, and which of its values
EVENTS = {"rollout": ("rollouts", "shown"), "warning": ("warnings", "text")}


@dataclass
class StageHistory:
    """One stage: its part of the recipe, and what there is of it."""

    name: str
    config: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """of log.jsonl, one a step, by rising step"""
    facts: dict[str, Any] | None = None
    """stage.json, once it is finished"""
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    probe: dict[str, Any] | None = None
    asked: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """step -> what the held-out prompts were answered after it, inside the stage"""
    rollouts: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """step -> examples of the rollout that it learnt from"""
    warnings: dict[int, str] = field(default_factory=dict)
    """step -> what went wrong by then"""

    @property
    def objective(self) -> str:
        """Name it, with the options that the recipe sets."""
        entry = self.config.get("objective", "sft")
        options = dict(entry) if isinstance(entry, dict) else {"kind": entry}
        kind = str(options.pop("kind", ""))
        return kind + "".join(f", {name} {value}" for name, value in options.items())

    @property
    def trains(self) -> list[str]:
        """List what trains, adapters with their rank."""
        adapters = (self.config.get("lora") or {}).items()
        return [
            *(self.config.get("trainable") or {}),
            *(f"{pattern} (LoRA, r {rule.get('r', Lora.r):g})" for pattern, rule in adapters),
        ]

    @property
    def state(self) -> str:
        """Say how far it is."""
        if self.facts:
            return "finished"
        last = self.rows[-1]["step"] if self.rows else 0
        return f"step {last} of {self.config['steps']}" if last else "not begun"

    def total(self, name: str) -> int:
        """Sum a figure over the logged steps."""
        return sum(row.get(name, 0) for row in self.rows)


def recipe_of(run: Path) -> dict[str, Any]:
    """Read the recipe that a run was made with.

    Raises:
        FileNotFoundError: it is no output folder of omni-train.
    """
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise FileNotFoundError(f"{run}: no recipe.yaml; is this the output folder of omni-train?")
    return yaml.safe_load(recipe.read_text(encoding="utf-8"))


def history(run: Path) -> list[StageHistory]:
    """Read all stages of a run, in the recipe's order.

    Raises:
        FileNotFoundError: it is no output folder of omni-train.
    """
    stages = [StageHistory(config["name"], config) for config in recipe_of(run)["stages"]]
    steps: dict[str, dict[int, dict[str, Any]]] = {stage.name: {} for stage in stages}
    asked: dict[str, dict[int, list[dict[str, Any]]]] = {stage.name: {} for stage in stages}
    for row in read_lines(run / "log.jsonl"):
        if row.get("event") == "answers" and row["name"] in asked:
            asked[row["name"]][row["after"]] = row["answers"]
        if row.get("event") in EVENTS and row["name"] in steps:
            stage = next(stage for stage in stages if stage.name == row["name"])
            kept, value = EVENTS[row["event"]]
            getattr(stage, kept)[row["after"]] = row[value]
        if "step" in row and row.get("stage") in steps:
            steps[row["stage"]][row["step"]] = row  # a step done again after a kill: the later
    for stage in stages:
        stage.rows = [row for _, row in sorted(steps[stage.name].items())]
        stage.asked = dict(sorted(asked[stage.name].items()))
        stage.quarantine = [*read_lines(run / "resume" / stage.name / "quarantine.jsonl")]
        stage.facts = _json(run / stage.name / "stage.json")
        stage.probe = _json(run / stage.name / "probe.json")
    return stages


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
