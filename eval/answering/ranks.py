"""The processes that share one evaluation."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from omni.launch import launched


@dataclass(frozen=True)
class Ranks:
    """This process among `world` of them, which all run the same code on the same questions."""

    rank: int = 0
    world: int = 1

    def gather(self, mine: Any) -> list[Any]:
        """Return what every rank passes, in the order of ranks; waits for all of them."""
        if self.world == 1:
            return [mine]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, mine)
        return found

    def share(self, costs: dict[str, int]) -> dict[str, int]:
        """Return this rank's part of `costs`: largest first, each to who has least to do."""
        loads, part = [0] * self.world, {}
        for key in sorted(costs, key=lambda k: -costs[k]):  # stable: every rank finds the same
            least = loads.index(min(loads))
            loads[least] += costs[key]
            if least == self.rank:
                part[key] = costs[key]
        return part


def join() -> Ranks:
    """Meet the other processes of a launcher; alone without one.

    They exchange texts only, so gloo does on every machine. One may wait long for another.

    Raises:
        LaunchError: the processes that were asked for cannot share the work.
    """
    if launched("eval.cli") == 1:
        return Ranks()
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(days=1))
    return Ranks(dist.get_rank(), dist.get_world_size())
