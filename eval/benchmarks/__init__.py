"""Public benchmarks: one tuple of `Benchmark` for each kind of input."""

from ..lmms.benchmark import Benchmark
from .audio import AUDIO
from .image import IMAGE10
from .more_image import MORE_IMAGE
from .omni import OMNI
from .text import TEXT
from .video import VIDEO

EVERY: tuple[Benchmark, ...] = (*IMAGE10, *MORE_IMAGE, *VIDEO, *AUDIO, *OMNI, *TEXT)
