"""Who answers: a checkpoint of ours, any model of transformers, or an endpoint."""

from pathlib import Path
from typing import Any

from .opened import Opened

PREFIXES = ("hf:", "openai:")


def open_model(spec: str, model_name: str = "", **limits: Any) -> Opened:
    """Open what the command line names.

    Args:
        spec: the folder of a checkpoint of ours, "hf:" and a hub id or folder of transformers, or
            "openai:" and the address of an endpoint, such as openai:http://localhost:8000/v1.
        model_name: which model of the endpoint.
        limits: `token_budget`, `max_batch`, `sampling`, `ranks` and `progress` of `Answerer`.

    Raises:
        ValueError: an endpoint without a model name; CheckpointError: not a checkpoint of ours;
            OSError: transformers does not find the model.
    """
    if spec.startswith("openai:"):
        from .endpoint import open_endpoint

        return open_endpoint(spec.removeprefix("openai:"), model_name, **limits)
    if spec.startswith("hf:"):
        from .hf import open_transformers

        return open_transformers(spec.removeprefix("hf:"), **limits)
    from .ours import open_checkpoint

    return open_checkpoint(Path(spec), **limits)
