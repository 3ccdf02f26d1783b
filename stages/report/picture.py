"""One PNG of a finished run, for a README: some examples, the scores, the losses."""

import io
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from markupsafe import Markup
from PIL import Image, ImageChops

from eval.report.chart import scores
from eval.report.page import examples, render

from .history import history
from .page import losses
from .summary import evaluated

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1200, 4000)  # of the window; what is empty below is cut off
COLOURS = 128
IN_PICTURE = 6  # examples
SECONDS = 120


def write_picture(run: Path, evaluation: Path, out: Path) -> None:
    """Draw a run to a PNG with an installed Chromium.

    Args:
        run: output folder of omni-train.
        evaluation: output folder of omni-eval.
        out: the file to write.

    Raises:
        FileNotFoundError: no evaluation yet, or no browser; says what to do.
        ValueError: the browser drew nothing; says what it printed.
    """
    result = json.loads(evaluated(run, evaluation).read_text(encoding="utf-8"))
    text = render(
        "picture.html", "stages.report", name=run.resolve().name,
        examples=examples(result, evaluation)[:IN_PICTURE],
        scores=Markup(scores("score of each row, per cent", result["rows"])),
        losses=[charts[0] for stage in history(run) if (charts := losses(stage))],
    )  # fmt: skip
    picture = _cut(Image.open(io.BytesIO(_drawn(text))).convert("RGB"))
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)


def browser() -> str | None:
    """Return the path of an installed Chromium, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _drawn(text: str) -> bytes:
    command = browser()
    if not command:
        raise FileNotFoundError(
            f"a picture is drawn by a browser, and none is installed: {', '.join(BROWSERS)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        page, drawn = Path(folder, "page.html"), Path(folder, "page.png")
        page.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [command, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={folder}/profile", f"--window-size={SIZE[0]},{SIZE[1]}",
             f"--screenshot={drawn}", page.as_uri()],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if not drawn.is_file():
            raise ValueError(f"{command} drew nothing: {done.stderr[-500:]}")
        return drawn.read_bytes()


def _cut(picture: Image.Image) -> Image.Image:
    empty = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, empty).getbbox() or (0, 0, *picture.size)
    return picture.crop((0, 0, picture.width, min(picture.height, box[3] + box[1])))
