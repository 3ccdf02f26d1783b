"""`omni-train watch`: the page of a run, written anew while it trains."""

import time
from collections.abc import Callable
from pathlib import Path

from .history import history
from .page import write_page


def watch(
    run: Path,
    evaluation: Path,
    seconds: int,
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write the page every so many seconds until all stages are finished.

    Args:
        run: output folder of omni-train; it may have just begun.
        evaluation: output folder of omni-eval, which need not be there.
        seconds: between two pages; a browser reads it again as often.
        say: prints how far the run is, where that changed.
        sleep: waits.

    Raises:
        FileNotFoundError: `run` is no output folder of omni-train.
    """
    shown = ""
    while True:
        stages = history(run)
        states = ", ".join(f"{stage.name}: {stage.state}" for stage in stages)
        done = all(stage.facts for stage in stages)
        page = write_page(run, evaluation, 0 if done else seconds)
        if states != shown:
            say(states if shown else f"open {page.resolve()} in a browser\n{states}")
            shown = states
        if done:
            return
        sleep(seconds)
