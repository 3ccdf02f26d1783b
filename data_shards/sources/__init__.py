"""Where samples come from; a new source is one file and one line here."""

from .base import Build, SourceError, SourceOptions, SourceUnavailable
from .llava import Llava
from .shapes import Shapes
from .speech import Speech
from .stamps import Stamps
from .text import Text

SOURCES: dict[str, type[SourceOptions]] = {
    source.name: source for source in (Stamps, Speech, Text, Llava, Shapes)
}

__all__ = ["SOURCES", "Build", "SourceError", "SourceOptions", "SourceUnavailable"]
