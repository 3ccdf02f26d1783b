"""Where samples come from; a new source is one file and one line here."""

from .base import Build, SourceError, SourceOptions, SourceUnavailable
from .hf import HuggingFace
from .imagefolder import ImageFolder
from .kaldi import Kaldi
from .llava import Llava
from .preference import Preference
from .shapes import Shapes
from .speech import Speech
from .stamps import Stamps
from .text import Text
from .webdataset import WebDataset

SOURCES: dict[str, type[SourceOptions]] = {
    source.name: source
    for source in (
        *(Stamps, Speech, Text, Shapes),
        *(Llava, ImageFolder, HuggingFace, Kaldi, WebDataset, Preference),
    )
}

__all__ = ["SOURCES", "Build", "SourceError", "SourceOptions", "SourceUnavailable"]
