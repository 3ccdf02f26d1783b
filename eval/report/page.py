"""An HTML page in one file: no network, no scripts; base.html has the style of all pages."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from .chart import figure

MEDIA = {".jpg": "image/jpeg", ".png": "image/png", ".flac": "audio/flac", ".wav": "audio/wav"}
LARGEST = 4 << 20  # bytes of a medium shown in a page


def render(template: str, package: str, **shown: Any) -> str:
    """Fill a template of a package, which may extend base.html."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("eval.report", ".")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = figure
    return environment.get_template(template).render(**shown)


def data_uri(path: Path) -> str:
    """Return a file's content as an address; empty if there is none, or it is no known medium."""
    kind = MEDIA.get(path.suffix)
    if not kind or not path.is_file() or path.stat().st_size > LARGEST:
        return ""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def examples(result: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    """Return a result's worked examples with their media as addresses.

    Args:
        result: what rows.json holds; that of an older run has none.
        out: the folder that it lies in.
    """
    return [
        one | {kind: one[kind] and data_uri(out / one[kind]) for kind in ("image", "audio")}
        for one in result.get("examples", [])
    ]
