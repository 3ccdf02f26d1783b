"""`python -m lmms_eval`, with a checkpoint of ours behind its own generic transformers chat model.

That model, `--model huggingface`, takes what transformers' auto classes find. Float32 alone is
chosen here, for it asks for bfloat16, which a CPU without it computes many times slower.
"""

import os
import runpy
import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

FIRST = "OMNI_BENCH_FIRST"  # names the file whose time is that of the first answer


def teach() -> None:
    """Make our classes answer as the generic chat model asks."""

    from omni import OmniForConditionalGeneration as Model

    load, generate = Model.from_pretrained, Model.generate

    def from_pretrained(cls: Any, folder: str, **options: Any) -> Any:
        return load(folder, dtype="float32")

    @wraps(generate)
    def timed(self: Any, *arguments: Any, **options: Any) -> Any:
        output = generate(self, *arguments, **options)
        first = Path(os.environ[FIRST])
        if not first.exists():
            first.write_text(str((time.time(), time.process_time())))
        return output

    Model.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment]
    Model.generate = timed


if __name__ == "__main__":
    teach()
    sys.argv[0] = "lmms_eval"
    runpy.run_module("lmms_eval", run_name="__main__", alter_sys=True)
