"""Buffers that no checkpoint holds: computed where a part is built, kept while it is loaded.

transformers builds what it is going to load on torch's meta device, where nothing is computed,
and libraries whose modules it does not know lose what they compute once and do not save: tables
of positions, masks of windows.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn


def build(make: Callable[[], nn.Module]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Build a part so that its buffers hold what they should, and has the default dtype.

    It is computed in float32, as half precision would lose positions. On the meta device the
    part is built on the CPU and moved there, so that its random weights are freed at once, and
    chance goes on as if it had not been built.

    Returns:
        The part, and by name its buffers that no checkpoint holds; none where it has them itself.
    """
    dtype, is_meta = torch.get_default_dtype(), torch.get_default_device().type == "meta"
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.random.fork_rng(devices=[], enabled=is_meta),
            torch.device("cpu") if is_meta else nullcontext(),
        ):
            part = make().to(dtype)
    finally:
        torch.set_default_dtype(dtype)
    if not is_meta:
        return part, {}
    computed = {
        f"{prefix}.{name}" if prefix else name: module.get_buffer(name)
        for prefix, module in part.named_modules()
        for name in module._non_persistent_buffers_set
        if module._buffers[name] is not None
    }
    return part.to("meta"), computed
