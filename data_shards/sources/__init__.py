"""Where samples come from; a new source is one file and one line here."""

from .base import Build, SourceError, SourceOptions, SourceUnavailable
from .demo.easyvqa import EasyVqa
from .demo.photos import Photos
from .demo.pictures import Pictures
from .demo.recordings import Recordings
from .demo.shapes import Shapes
from .demo.speech import Speech
from .demo.stamps import Stamps
from .demo.text import Text
from .demo.toy import Toy
from .demo.vqa import Vqa
from .formats.critique import Critique
from .formats.guard import Guard
from .formats.hf import HuggingFace
from .formats.imagefolder import ImageFolder
from .formats.kaldi import Kaldi
from .formats.llava import Llava
from .formats.preference import Preference
from .formats.webdataset import WebDataset

SOURCES: dict[str, type[SourceOptions]] = {
    source.name: source
    for source in (
        *(Stamps, Pictures, EasyVqa, Photos, Speech, Recordings, Text, Shapes, Vqa, Toy),
        *(Llava, ImageFolder, HuggingFace, Kaldi, WebDataset, Preference, Critique, Guard),
    )
}

__all__ = ["SOURCES", "Build", "SourceError", "SourceOptions", "SourceUnavailable"]
