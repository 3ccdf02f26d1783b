"""What a folder that transformers wrote says of preprocessing."""

import json
from pathlib import Path
from typing import Any


def stored_preprocessing(folder: Path, part: str) -> dict[str, Any]:
    """Return the settings of a file of its own, or else of a part of the processor's; or nothing.

    Args:
        folder: of a model.
        part: "image_processor" or "feature_extractor".
    """
    own, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        return json.loads(own.read_text())
    return json.loads(whole.read_text()).get(part) or {} if whole.is_file() else {}
