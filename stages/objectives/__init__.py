"""Objectives: what a batch is to teach. One more is one file and one line here.

In a recipe: `objective: align`, or `objective: {kind: align, norm_weight: 0.2}`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omni.entry import EntryError
from omni.nearest import nearest

if TYPE_CHECKING:
    from .base import Objective

OBJECTIVES = {
    "align": "stages.objectives.align:Align",
    "codec": "stages.objectives.codec:Codec",
    "dpo": "stages.objectives.dpo:Dpo",
    "grpo": "stages.objectives.grpo:Grpo",
    "flow": "stages.objectives.flow:FlowMatching",
    "hs_dpo": "stages.objectives.hs_dpo:HsDpo",
    "orpo": "stages.objectives.orpo:Orpo",
    "ppo": "stages.objectives.ppo:Ppo",
    "reinforce": "stages.objectives.reinforce:Reinforce",
    "sft": "stages.objectives.sft:Sft",
    "speak": "stages.objectives.speak:Speak",
    "spin": "stages.objectives.spin:Spin",
    "vocoder": "stages.objectives.vocoder:Vocode",
}
"""kind -> "module:class", imported once it is asked for: recipes are read without torch"""
ON_ROLLOUTS = ("grpo", "ppo", "reinforce")
"""kinds that learn from what the model answers: they are subclasses of `policy.Policy`"""


def objective_class(kind: object) -> "type[Objective]":
    """Return the class of a kind.

    Raises:
        EntryError: there is none; the nearest is named.
    """
    if not isinstance(kind, str) or kind not in OBJECTIVES:
        raise EntryError(f"unknown objective {kind!r}; {nearest(kind, OBJECTIVES)}", "kind")
    module, name = OBJECTIVES[kind].split(":")
    return getattr(import_module(module), name)


def make_objective(entry: Any) -> "Objective":
    """Make the objective that a recipe's entry says: a kind, or a mapping with its options.

    Raises:
        EntryError: an unknown kind or option; the nearest is named.
    """
    options = dict(entry) if isinstance(entry, dict) else {"kind": entry}
    return objective_class(options.pop("kind", None)).of(options)


def check_objective(entry: Any) -> None:
    """Refuse an entry that makes none; what has no options is not imported for it.

    Raises:
        EntryError: an unknown kind or option; the nearest is named.
    """
    if not isinstance(entry, str) or entry not in OBJECTIVES:
        make_objective(entry)


def kind_of(entry: Any) -> str:
    """Return the kind that a recipe's entry says."""
    return str(entry.get("kind") if isinstance(entry, dict) else entry)
