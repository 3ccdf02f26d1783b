"""How much memory and time a stage will take, from one of its own packs run on this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from omni.features.cache import FeatureCache

from ..objectives.task import Task

PREFETCHED = 256 << 20  # bytes of samples that a loader may hold ready


class Memory(NamedTuple):
    """What a stage needs on one device without sharding, and what there is, in bytes."""

    weights: int
    reference: int
    """frozen weights that the objective compares with; 0: none are kept"""
    gradients: int
    moments: int
    """of AdamW: two for each weight that trains"""
    activations: int
    """what the backward pass of the largest planned pack needs; 0: not measured"""
    held: int
    """features kept in memory, and samples read ahead, where they share it with the model"""
    available: int

    @property
    def needed(self) -> int:
        """Return the sum of all needs."""
        return sum(self[:-1])


class Seconds(NamedTuple):
    """What a stage takes in one process on this machine, data loading aside."""

    first: float
    """a pack of average size whose media pass their encoders"""
    again: float
    """the same with the outputs of frozen encoders cached; equal to `first` without a cache"""
    update: float
    """clipping and the optimizer's step"""
    cached: bool


def memory_of(
    model: Any, reference: nn.Module | None, cache_bytes: int, device: torch.device
) -> Memory:
    """Return what is known without running anything; `activations` is 0.

    Args:
        model: what trains must be set.
        reference: what its objective keeps beside it; may lie on the meta device.
        cache_bytes: of a feature cache in memory.
        device: where the stage is to run.
    """
    tensors = _tensors(model)
    weights = sum(t.nbytes for t in tensors)
    beside = sum(t.nbytes for t in _tensors(reference)) if reference else 0
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    on_cpu = device.type == "cpu"
    held = cache_bytes + (PREFETCHED if on_cpu else 0)
    own = sum(t.nbytes for t in tensors if t.device.type == device.type)  # the run's, not more
    return Memory(weights, beside, trained, 2 * trained, 0, held, available(device) + own)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def available(device: torch.device) -> int:
    """Return the bytes that programs can still have on a device; containers have less of RAM."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no limit, or another kind of system
        return free


def size(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 5e8 else f"{count / 1e6:.1f} MB"


def measure(
    model: Any, objective: Any, pack: dict[str, Any], cache_bytes: int, half: bool
) -> tuple[Seconds, int]:
    """Run a pack forward and backward, and an update that changes nothing.

    Args:
        model: on its device; what trains must be set. Gradients are gone afterwards.
        objective: as a recipe says it.
        pack: tensors of an average pack, on that device.
        cache_bytes: for outputs of frozen encoders; 0: they run every time.
        half: compute in bf16 where autocast does.

    Returns:
        Seconds, and the bytes that the backward pass needed.

    Raises:
        ValueError: the gradient is not finite.
    """
    task, device = Task(model, objective), model.device
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)
    labels = torch.ones((), device=device)
    before, was_training = model.feature_cache, model.training
    task.train()
    try:
        model.feature_cache = None
        bytes_ = 0

        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = task(pack, labels).total
            loss.backward()

        def held() -> None:
            nonlocal bytes_
            with Saved(model) as saved:
                run()
            bytes_ = sum(saved.storages.values())

        _timed(held, device)  # the first run warms up: kernels are chosen, memory is fetched
        model.feature_cache = FeatureCache(cache_bytes) if cache_bytes else None
        first, again = _timed(run, device), _timed(run, device)

        def update() -> None:
            if not torch.nn.utils.clip_grad_norm_(trained, 1.0).isfinite():
                raise ValueError("the gradient of a pack is not finite")
            optimizer.step()

        _timed(update, device)  # it makes the moments
        again = min(first, again)
        first = first if cache_bytes else again
        return Seconds(first, again, _timed(update, device), bool(cache_bytes)), bytes_
    finally:
        model.feature_cache = before
        model.train(was_training)
        model.zero_grad()


class Saved(saved_tensors_hooks):
    """Counts the memory that a graph keeps for its backward pass, weights aside."""

    def __init__(self, model: Any):
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages: dict[int, int] = {}  # address -> bytes; many tensors share one

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                self.storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        super().__init__(keep, lambda tensor: tensor)

    def __enter__(self) -> "Saved":
        super().__enter__()
        return self


def _timed(call: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
