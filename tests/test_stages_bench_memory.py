"""`bench memory` tells what the memory of a training is made of, and sees what it does not know."""

import mmap

import pytest
import torch

from stages.bench import memory


@pytest.mark.slow
def test_the_parts_of_each_stage_are_those_of_what_trains(tmp_path):
    result = memory.run(tmp_path / "work", small=True)
    assert [row["stage"] for row in result.rows] == ["vision_align", "audio_align", "omni", "sft"]
    assert result.figures["cpu"] == torch.backends.cpu.get_cpu_capability()
    assert result.ok and 0.1 < result.figures["peak_gb"] < 6
    for row in result.rows:
        assert sum(row[part] for part in (*memory.PARTS, "other")) == pytest.approx(
            row["peak"], abs=5e-3
        )
        assert row["libraries"] > 0.1 > row["weights"] >= row["gradients"]


def test_the_highest_memory_of_a_stretch_is_seen():
    with memory._peak() as before:
        pass
    # not of malloc, which may have as much left over
    with memory._peak() as peak, mmap.mmap(-1, 40 << 20) as fresh:
        fresh.write(bytes(40 << 20))
    assert peak["bytes"] - before["bytes"] > 30 << 20
