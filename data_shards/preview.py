"""`omni-shards preview`: some samples of every kind on one HTML page or PNG sheet."""

import base64
import html
import io
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from omni.files.atomic import write_text
from omni.media.decode import MediaError, load_image
from omni.media.video import iter_video

from .read.entry import BadSample, read_entry, scan_shard
from .shards.sample import Sample

MIME = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp",
    "flac": "audio/flac", "wav": "audio/wav", "ogg": "audio/ogg", "mp3": "audio/mpeg",
}  # fmt: skip
STYLE = """body{font:14px system-ui;margin:2em;background:#f6f6f6}main{display:grid;gap:1em;
grid-template-columns:repeat(auto-fill,minmax(280px,1fr))}article{background:#fff;padding:1em;
border-radius:8px}img{max-width:100%;max-height:240px;display:block;margin:auto}audio{width:100%}
h2{font-size:12px;color:#666;margin:0 0 .5em}p{margin:.3em 0;white-space:pre-wrap}
.assistant{color:#05603a;font-weight:600}.system{color:#666}.bad{color:#b00}
figure{display:inline-block;width:48%;margin:0 1% .3em 0}figcaption{font-size:11px;color:#666}"""
CELL, COLUMNS = 300, 4
FRAMES = 4  # of a video that are shown
EVERY_FRAME = 1e6  # frames/s: so many are asked for that FRAMES alone decides


def choose(folder: Path, count: int) -> list[Sample]:
    """Return up to `count` intact samples, as many as possible of every split and kind."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for shard in sorted(folder.glob("*.tar")):
        entries, _ = scan_shard(shard)
        step = max(1, len(entries) // (count * 8))  # a glance at a large shard, not all of it
        for entry in entries[::step]:
            try:
                sample = read_entry(entry)
            except BadSample:
                continue  # `verify` is the command that reports them
            group = groups.setdefault((sample.split, str(sample.meta.get("kind", ""))), [])
            group.append(sample)
    if not groups:
        raise FileNotFoundError(f"{folder} holds no readable shard")
    each = -(-count // len(groups))
    spread = (group[:: max(1, len(group) // each)][:each] for group in groups.values())
    return [sample for group in spread for sample in group]


def write_preview(samples: list[Sample], out: Path) -> None:
    """Write the sheet; the suffix of `out` says which form.

    Raises:
        ValueError: the suffix is neither .html nor .png.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        cards = "\n".join(_card(sample) for sample in samples)
        page = f"<!doctype html><meta charset=utf-8><title>{len(samples)} samples</title>"
        write_text(out, f"{page}<style>{STYLE}</style><main>{cards}</main>")
    elif out.suffix == ".png":
        _sheet(samples).save(out)
    else:
        raise ValueError(f"--out {out}: end it with .html or .png")


def _title(sample: Sample) -> str:
    return f"{sample.where} · {sample.meta.get('kind', '')}"


def _card(sample: Sample) -> str:
    lines = [f"<h2>{html.escape(_title(sample))}</h2>"]
    for message in sample.messages:
        for part in message["content"]:
            lines.append(_part(part, message["role"], sample))
    return f"<article>{''.join(lines)}</article>"


def _part(part: dict, role: str, sample: Sample) -> str:
    if part["type"] == "text":
        return f'<p class="{html.escape(role)}">{html.escape(part["text"])}</p>'
    name = part[part["type"]]
    data = sample.parts[name]
    if part["type"] == "video":
        return _video(name, data)
    mime = MIME.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    if part["type"] == "image":
        return f'<img src="{_url(mime, data)}" alt="{html.escape(name)}">'
    return f'<audio controls src="{_url(mime, data)}"></audio>'


def _url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _video(name: str, data: bytes) -> str:
    """Show frames of a video, each with its time; as a file, few browsers would play all kinds."""
    try:
        figures = []
        for frame, seconds in thumbnails(data, CELL, CELL):
            out = io.BytesIO()
            frame.save(out, "JPEG", quality=85)
            picture = f'<img src="{_url("image/jpeg", out.getvalue())}" alt="{html.escape(name)}">'
            figures.append(f"<figure>{picture}<figcaption>{seconds:.1f} s</figcaption></figure>")
        return "".join(figures)
    except MediaError as error:
        return f'<p class="bad">{html.escape(f"{name}: {error}")}</p>'


def thumbnails(data: bytes, width: int, height: int) -> list[tuple[Image.Image, float]]:
    """Return up to FRAMES frames of a video, made to fit a box in pixels, and their times (s).

    Raises:
        MediaError: it cannot be decoded.
    """
    found = []
    for pixels, seconds in iter_video(data, EVERY_FRAME, FRAMES):
        frame = Image.fromarray(pixels)
        frame.thumbnail((width, height))
        found.append((frame, seconds))
    return found


def _sheet(samples: list[Sample]) -> Image.Image:
    rows = -(-len(samples) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * CELL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, sample in enumerate(samples):
        x, y = i % COLUMNS * CELL, i // COLUMNS * CELL
        try:
            _paste(sample, sheet, x + 10, y + 20)
        except MediaError as error:
            pen.text((x + 10, y + 20), str(error)[:40], "red", font)
        pen.text((x + 10, y + 4), _title(sample)[:44], "gray", font)
        pen.text((x + 10, y + CELL // 2 + 25), _words(sample), "black", font)
    return sheet


def _paste(sample: Sample, sheet: Image.Image, x: int, y: int) -> None:
    """Put the first picture that a sample shows on the sheet, or frames of its first video."""
    kind, name = next(((k, n) for k, n in sample.refs() if k != "audio"), ("", ""))
    if kind == "image":
        thumb = load_image(sample.parts[name])
        thumb.thumbnail((CELL - 20, CELL // 2))
        sheet.paste(thumb, (x, y))
    elif kind == "video":
        wide, high = (CELL - 20) // 2, CELL // 4  # two by two in the room of a picture
        for n, (frame, _) in enumerate(thumbnails(sample.parts[name], wide, high)):
            sheet.paste(frame, (x + n % 2 * wide, y + n // 2 * high))


def _words(sample: Sample) -> str:
    lines: list[str] = []
    for message in sample.messages:
        words = [part.get("text") or f"[{part['type']}]" for part in message["content"]]
        mark = ">" if message["role"] == "assistant" else " "
        lines += textwrap.wrap(f"{mark} {' '.join(words)}", 44)
    return "\n".join(lines[:8])
