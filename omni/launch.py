"""What a launcher says: how many processes share the work, and which of them this one is."""

import os

SAYS = {
    "torchrun": ("WORLD_SIZE", "RANK", "LOCAL_RANK"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "MVAPICH": ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "MPI": ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
}
"""launcher -> how it names the number of processes, this one, and this one on its machine"""
PORT = "29500"


class LaunchError(ValueError):
    """Processes that were asked for and cannot work together; the text says what to type."""


def launched(module: str) -> int:
    """Return how many processes share the work; 1 without a launcher.

    With several, they can meet afterwards: torchrun's variables are set, whoever the launcher is.
    LOCAL_RANK is left out where nothing tells it.

    Args:
        module: what runs, for the advice of an error, e.g. "stages.cli".

    Raises:
        LaunchError: the launcher started one process of several, or does not say where they meet.
    """
    env, given = os.environ, SAYS["torchrun"]
    # an explicit WORLD_SIZE holds, also 1: several tasks may each be a run of their own
    names = given if given[0] in env else next((s for s in SAYS.values() if s[0] in env), given)
    world = _number(names[0], "1", module)
    if world == 1:
        # accelerate sets both for `--cpu --num_processes N`, starts one process and keeps N
        if given[0] not in env and "ACCELERATE_USE_CPU" in env and "MASTER_ADDR" in env:
            raise LaunchError(
                "accelerate launch was asked for several processes and started one, as it does "
                f"without GPUs; type: torchrun --nproc-per-node N -m {module} ..."
            )
        return 1
    if names[1] not in env or "MASTER_ADDR" not in env:
        missing = names[1] if names[1] not in env else "MASTER_ADDR (the host of the first)"
        raise LaunchError(
            f"{names[0]} says that {world} processes share the work, but {missing} is not set; "
            f"type: torchrun --nproc-per-node {world} -m {module} ..., or set it; for {world} "
            "separate runs with an output each set WORLD_SIZE=1"
        )
    if not _number(names[1], "", module) < world:
        raise LaunchError(f"{names[1]} is {env[names[1]]} of {world} processes: it counts from 0")
    local = next((env[s[2]] for s in (names, *SAYS.values()) if s[2] in env), None)
    found = {"WORLD_SIZE": str(world), "RANK": env[names[1]], "LOCAL_RANK": local}
    env.update({name: value for name, value in found.items() if value is not None})
    env.setdefault("MASTER_PORT", PORT)
    return world


def _number(name: str, default: str, module: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal() or (name.endswith(("SIZE", "TASKS")) and not int(value)):
        raise LaunchError(
            f"{name} is {value!r}, not a number of processes; unset it, or type: torchrun "
            f"--nproc-per-node N -m {module} ..."
        )
    return int(value)
