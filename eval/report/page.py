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


def worked_example(result: dict[str, Any], out: Path) -> dict[str, str] | None:
    """Return what a page shows of a result's worked example; None if it has none.

    Args:
        result: what rows.json holds.
        out: the folder that it lies in; media are looked for there too, as it may have moved.
    """
    example = result.get("example")
    if not example:
        return None
    media = {}
    for kind in ("image", "audio"):
        name = example.get(kind)
        found = [data_uri(path) for path in (Path(name), out / Path(name).name)] if name else []
        media[kind] = next(filter(None, found), "")
    return {**{key: example.get(key, "") for key in ("question", "answer", "expected")}, **media}
