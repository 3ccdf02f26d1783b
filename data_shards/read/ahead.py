"""Fetch the remote shards that a plan will read next, before their samples are asked for."""

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

from ..plan.draws import Order
from ..plan.plan import Plan, Snapshot
from ..remote.cache import open_shard, shard_cache
from ..remote.files import is_url


class Ahead:
    """Follows a plan: after each step, `follow` has the shards of its next windows fetched."""

    def __init__(self, plan: Plan):
        config = plan.config
        remote = [n for n in plan.names if any(map(is_url, plan.sources[n].shards))]
        self.shards = {name: plan.sources[name].shards for name in remote}
        self.orders = {
            name: Order(name, plan.sources[name], config.seed, config.shuffle_shards)
            for name in remote
        }
        self.names = plan.names

    def follow(self, state: Snapshot | Mapping[str, Any]) -> None:
        """Begin to fetch what is read from `state` on; return at once."""
        if not self.orders:
            return
        if isinstance(state, Snapshot):
            counts = dict(zip(self.names, state.counts, strict=True))
        else:
            counts = state["sources"]
        lists = []
        for name, order in self.orders.items():
            numbers = order.shards_from(counts[name]["position"])
            # without windows any sample may come next: begin anywhere
            lists.append([self.shards[name][n] for n in numbers] or self.shards[name])
        shared = chain.from_iterable(zip_longest(*lists))  # every source gets its share of room
        shard_cache().prefetch([url for url in shared if url])

    @staticmethod
    def wait(document: Any) -> None:
        """Fetch the shard of a document, so that the time for reading it is for reading only."""
        if is_url(document.entry.shard):
            open_shard(document.entry.shard).close()
