"""A pretrained part on this machine, and where parts that were fetched are kept."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path


class WeightsError(RuntimeError):
    """A part that cannot be had; the text says which, what was tried, and how to supply it."""


@dataclass(frozen=True)
class Part:
    """A pretrained part on this machine and the record of where it came from."""

    folder: Path
    source: str
    license: str
    sha256: str = ""
    fetched: bool = True
    """whether its weights are there too, and not its configs alone"""

    def record(self) -> dict[str, str]:
        """Return what a checkpoint remembers of the part: source, licence and hash, no path."""
        return {k: v for k, v in asdict(self).items() if k not in ("folder", "fetched") and v}


def cache_dir() -> Path:
    """Return `$OMNI_CACHE`, or `~/.cache/omni-stages`."""
    return Path(os.environ.get("OMNI_CACHE") or Path.home() / ".cache" / "omni-stages").expanduser()
