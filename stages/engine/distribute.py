"""Many processes as one: gradients averaged (DDP), or weights sharded as well (FSDP2).

A step never hangs on a modality that only some ranks have. DDP waits for the gradient of every
trained parameter: `OmniForConditionalGeneration.zero_touch` gives one to what did not run. FSDP2
gathers weights whenever a unit runs: decoder layers, which run on every rank, are units of their
own, and all the rest, encoders and projectors too, is the one unit that the step itself gathers.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from omni.launch import LaunchError, launched

from .kernels import layers_of
from .precision import choose_precision


def join(precision: str) -> Accelerator:
    """Meet the other processes of a launcher, on GPUs or on the CPU; alone without one.

    Args:
        precision: the recipe's; where it is measured, the main process does so for all.

    Raises:
        LaunchError: the processes that were asked for cannot share the work.
    """
    world = launched("stages.cli")
    gpu = torch.accelerator.current_accelerator(check_available=True)
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if world > 1:
        # accelerate joins processes without GPUs only if it is told so
        cpu = cpu or gpu is None or gpu.type == "mps"
        os.environ["ACCELERATE_USE_CPU"] = str(cpu).lower()
        if not cpu:
            _check_local(world)
    state = PartialState(cpu=cpu)
    if state.num_processes != world:
        raise LaunchError(
            f"{world} processes were started, {state.num_processes} would share the work; type: "
            f"torchrun --nproc-per-node {world} -m stages.cli ..."
        )
    chosen = [choose_precision(precision) if state.is_main_process else ""]
    broadcast_object_list(chosen)
    return Accelerator(mixed_precision=chosen[0])


def _check_local(world: int) -> None:
    """Make sure that this process has a GPU of its own."""
    there = torch.accelerator.device_count()
    if "LOCAL_RANK" not in os.environ and there > 1:
        raise LaunchError(
            f"{world} processes were started, and none knows which of {there} GPUs is its own; "
            "set LOCAL_RANK, or use torchrun"
        )
    local = int(os.environ.setdefault("LOCAL_RANK", "0"))
    # torchrun lets every process see all GPUs; others may show each its own alone
    if "TORCHELASTIC_RUN_ID" in os.environ and local >= there:
        raise LaunchError(
            f"more processes than the {there} GPUs of this machine; type: torchrun "
            f"--nproc-per-node {there} -m stages.cli ..., or set ACCELERATE_USE_CPU=true"
        )


def by_main(accelerator: Accelerator, act: Callable[[], None]) -> None:
    """Let the main process do something for all while the others wait; it alone raises its errors.

    Raises:
        SystemExit: on the other processes, with the code 2, where it failed.
    """
    failed: list[Any] = [False]
    try:
        if accelerator.is_main_process:
            failed = [True]
            act()
            failed = [False]
    finally:
        broadcast_object_list(failed)
    if failed[0]:
        raise SystemExit(2)


def engine(task: nn.Module) -> str:
    """Name what joins the processes of a task that was distributed."""
    if isinstance(task, FSDPModule):
        return "FSDP2"
    return "DDP" if isinstance(task, DistributedDataParallel) else "single"


def check_sharding(sharding: str, device: torch.device) -> None:
    """Refuse to share weights over devices that FSDP2 does not run on.

    Raises:
        ValueError: says what to choose.
    """
    if sharding == "full" and device.type not in ("cpu", "cuda", "xpu"):
        raise ValueError(
            f"sharding: full does not run on {device.type}, which is one device; leave sharding "
            "out, or use GPUs of CUDA"
        )


def distribute(task: nn.Module, accelerator: Accelerator, sharding: str) -> nn.Module:
    """Move a task to this process's device and join it with those of the other processes.

    Args:
        task: `stages.objectives.Task`; what trains must be set already.
        accelerator: knows the processes.
        sharding: "none": every rank holds all weights (DDP). "full": each holds its share of
            weights, gradients and moments (FSDP2).

    Raises:
        ValueError: full, and the LLM or the objective needs all weights at once.
    """
    if sharding == "none" or accelerator.num_processes == 1:
        return accelerator.prepare(task)
    task.objective.check_sharding(sharding)  # type: ignore[union-attr, operator]
    if not task.model.config.isolates:  # type: ignore[union-attr]
        raise ValueError(
            "sharding: full runs the LLM's layers equally often on every rank, and this LLM runs "
            "the documents of a packed row one by one; use sharding: none"
        )
    device = accelerator.device
    task.to(device)
    half = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    how: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (accelerator.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=half, cast_forward_inputs=False),
    }
    for layer in layers_of(task.model, "sharding: full"):
        fully_shard(layer, **how)
    fully_shard(task, **how)
    return task


def to_device(
    tensors: Mapping[str, torch.Tensor], device: torch.device, stay: Collection[str]
) -> dict[str, torch.Tensor]:
    """Move a batch's tensors without waiting, but for those that `stay` with the host."""
    return {
        name: value if name in stay else value.to(device, non_blocking=True)
        for name, value in tensors.items()
    }


@contextmanager
def gradients(task: Any, accelerator: Accelerator, last: bool) -> Iterator[None]:
    """Run a micro-batch; ranks exchange gradients after the last of a step only."""
    if isinstance(task, FSDPModule):
        task.set_requires_gradient_sync(last)
        yield
    elif last:
        yield
    else:
        with accelerator.no_sync(task):
            yield


def clip(parameters: Iterable[torch.Tensor], limit: float) -> torch.Tensor:
    """Scale gradients to a norm of at most `limit`; return their norm over all ranks."""
    return full_tensor(nn.utils.clip_grad_norm_(parameters, limit))


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be sharded in full; a collective: every rank must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(model: Any, accelerator: Accelerator) -> dict[str, Any]:
    """Return all weights by name, in the main rank's host memory; every rank calls it."""
    weights, seen = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():  # tied weights: one memory
        if id(tensor) not in seen:
            full = full_tensor(tensor.detach())
            seen[id(tensor)] = full.cpu() if accelerator.is_main_process else None
        weights[name] = seen[id(tensor)]
    return weights


def agree(stop: int, due: bool, accelerator: Accelerator) -> tuple[int, bool]:
    """Let all ranks stop or save at the same step: clocks and signals differ between them."""
    if accelerator.num_processes == 1:
        return stop, due
    mine = torch.tensor([stop, int(due)], device=accelerator.device)
    everyone = accelerator.gather(mine[None])
    return int(everyone[:, 0].max()), bool(everyone[:, 1].any())  # type: ignore[index]
