"""`SHARD.tar.idx`, the sample offsets that Megatron-Energon keeps beside each shard.

Its layout: little-endian u64, the offset of each sample's first header, then the end of the last
sample.
"""

from pathlib import Path

import numpy as np

from omni.files.atomic import replacing

from ..shards.tar import BLOCK
from .sidecar import Sidecar


def write_offsets(side: Sidecar) -> list[Path]:
    """Write the file beside every shard that is whole, and return where.

    A damaged shard gets none: Energon would read on into what is damaged.
    """
    written = []
    for shard in side.shards:
        if shard.bad or not shard.rows:
            continue
        rows = side.samples[shard.first : shard.first + shard.rows]
        end = int(rows["offset"][-1]) + int(rows["span"][-1])
        offsets = np.append(rows["offset"], -(-end // BLOCK) * BLOCK).astype("<u8")
        path = Path(f"{side.place(shard)}.idx")
        if not path.is_file() or path.read_bytes() != offsets.tobytes():
            with replacing(path) as scratch:
                scratch.write_bytes(offsets.tobytes())
        written.append(path)
    return written
