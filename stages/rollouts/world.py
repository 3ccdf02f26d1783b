"""The environment that a stage names, and what is wrong with it before the stage runs."""

from typing import Any

from data_shards.environments import Checked, EnvironmentFault, make_environment
from data_shards.read.quarantine import FEW
from data_shards.sources.base import SourceUnavailable
from omni.entry import EntryError
from omni.media.decode import MediaError
from omni.model.positions import positions_of
from omni.processing.messages import MessageError

from ..recipe.rollout import RolloutConfig, rollout_of
from ..recipe.schema import StageConfig
from .play import Play
from .reward import reward_function


def environment_of(config: RolloutConfig) -> Checked:
    """Make the environment of a rollout.

    Raises:
        EntryError: there is none of the kind, or an option of it cannot be.
    """
    try:
        return make_environment(config.environment)
    except EntryError as error:
        raise EntryError(error, "environment", *error.keys) from error


def check_rollouts(stage: StageConfig, model: Any, processor: Any) -> None:
    """Refuse an environment, or a reward, that could not be used for the first few prompts.

    Raises:
        EntryError: says why of the first.
    """
    config = rollout_of(stage.rollout)
    environment = environment_of(config)
    if config.reward:
        reward_function(config.reward)
        if config.attempts > 1:
            raise EntryError("reward pays for single answers: with a reward function, attempts "
                             "is 1", "attempts")  # fmt: skip
    play = Play(environment, processor, config, positions_of(model.config.text_config) or 0)
    reasons = []
    for seed in range(FEW):
        try:
            play.prompt(seed)
            return
        except SourceUnavailable as error:  # what prompts are rendered with
            raise EntryError(error, "environment") from error
        except (EnvironmentFault, MessageError, MediaError, ValueError) as error:
            reasons.append(f"{play.where(seed)}: {error}")
    raise EntryError(f"none of the first {FEW} prompts can be asked; {reasons[0]}", "environment")
