"""Where else the figures of a step go: TensorBoard, Weights & Biases, ..., through accelerate."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    filter_trackers,
    get_available_trackers,
)

from omni.nearest import nearest

from ..recipe.schema import RecipeError, StageConfig
from .names import OF_GROUP

OF_A_STAGE = {"wandb": ("name", "dir"), "trackio": ("name",)}
"""how a tracker's own options name the stage and the folder, if it has any"""


class Login(NamedTuple):
    """How a service knows who logs to it."""

    keys: tuple[str, ...]
    """variables of the environment, which it needs all of"""
    files: tuple[str, ...]
    """where a login is kept, any of them"""
    offline: tuple[str, str]
    """a variable of the environment, and a pattern of values with which it needs none"""
    how: str

    def is_there(self) -> bool:
        """Tell whether there is one, or none is needed, as far as shows without the service."""
        files = (os.path.expanduser(os.path.expandvars(file)) for file in self.files)
        name, values = self.offline
        return (
            all(map(os.environ.get, self.keys))
            or any(map(os.path.exists, files))
            or re.fullmatch(values, os.environ.get(name, ""), re.IGNORECASE) is not None
        )


LOGINS = {
    "comet_ml": Login(
        ("COMET_API_KEY",), ("$COMET_CONFIG", "~/.comet.config", ".comet.config"),
        ("COMET_START_ONLINE", "0|false|no"),
        "type comet login, set COMET_API_KEY, or keep its files here with COMET_START_ONLINE=0",
    ),
    "clearml": Login(
        ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"),
        ("$CLEARML_CONFIG_FILE", "~/clearml.conf"), ("CLEARML_OFFLINE_MODE", "1|true|yes"),
        "type clearml-init, set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or keep its "
        "files here with CLEARML_OFFLINE_MODE=1",
    ),
    "swanlab": Login(
        ("SWANLAB_API_KEY",), ("$SWANLAB_SAVE_DIR", "$SWANLAB_ROOT", "~/.swanlab"),
        ("SWANLAB_MODE", "offline|local|disabled"),
        "type swanlab login, set SWANLAB_API_KEY, or keep its files here with SWANLAB_MODE=offline",
    ),
}  # fmt: skip
"""the services that want one; the other trackers keep files, or ask whoever runs their server"""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be used, before anything is trained.

    Raises:
        RecipeError: accelerate does not know one, it is not installed, or it has no login.
    """
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            hint = nearest(name, sorted(LOGGER_TYPE_TO_CLASS))
            raise RecipeError(f"trackers: {name!r} is not known; {hint}")
        if name not in installed:
            raise RecipeError(
                f"trackers: {name} is not installed: pip install {name.replace('_', '-')}, or "
                "leave it out of the recipe"
            )
    if "wandb" in names:
        _check_wandb()
    for name in names:
        if name in LOGINS and not LOGINS[name].is_there():
            raise RecipeError(f"trackers: {name} has no login: {LOGINS[name].how}")


def _check_wandb() -> None:
    import wandb

    settings = wandb.setup().settings
    if settings.mode == "online" and not settings.api_key:
        raise RecipeError(
            "trackers: wandb has no login: type wandb login, set WANDB_API_KEY, or keep its files "
            "here with WANDB_MODE=offline"
        )


class Trackers:
    """The trackers of one stage.

    Those that keep files write to RUN/tensorboard/STAGE (each under its own file names); for the
    others the run is the project and the stage a run of it.
    """

    def __init__(
        self, names: Sequence[str], run: Path, stage: StageConfig, accelerator: Accelerator
    ):
        self._accelerator = accelerator
        folder = run / "tensorboard"
        accelerator.project_configuration.logging_dir = str(folder)
        config = {k: v for k, v in asdict(stage).items() if isinstance(v, str | int | float)}
        started: list[GeneralTracker] = []
        for name in names:
            files = LOGGER_TYPE_TO_CLASS[name].requires_logging_directory
            own = dict(zip(OF_A_STAGE.get(name, ()), (stage.name, str(run)), strict=False))
            accelerator.trackers, accelerator.log_with = [], filter_trackers([name], folder)
            accelerator.init_trackers(
                stage.name if files else run.name, None if files else config, {name: own}
            )
            started += accelerator.trackers
        accelerator.trackers = started

    def log(self, row: dict[str, Any], step: int) -> None:
        """Pass on the figures of a step."""
        counts = tuple(f".{count}" for count in OF_GROUP)
        figures = {k: v for k, v in row.items() if k != "step" and not k.endswith(counts)}
        self._accelerator.log(figures, step=step)

    def close(self) -> None:
        """Finish this stage's runs. (`end_training` would also leave the process group.)"""
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []
