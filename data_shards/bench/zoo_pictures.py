"""Pictures of every format, mode, depth and orientation, all of one ramp."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from omni.media.decode import ORIENTATION

LEVELS = (0, 64, 128, 191, 255)  # of the upper blocks; the lower ones are mirrored
SIDE = 24  # pixels of a block
SIZE = (len(LEVELS) * SIDE, 2 * SIDE)
RAMP = np.repeat(np.repeat([LEVELS, LEVELS[::-1]], SIDE, 0), SIDE, 1).astype(np.uint8)  # (H, W)
WORDS = np.rint(RAMP / 255.0 * 65535).astype(np.uint16)  # the same in 16 bits
_METHODS = Image.Transpose
# EXIF orientation -> what undoes it
_STORED = {2: _METHODS.FLIP_LEFT_RIGHT, 3: _METHODS.ROTATE_180, 4: _METHODS.FLIP_TOP_BOTTOM,
           5: _METHODS.TRANSPOSE, 6: _METHODS.ROTATE_90, 7: _METHODS.TRANSVERSE,
           8: _METHODS.ROTATE_270}  # fmt: skip
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
)
LOSSLESS, LOSSY = 1, 8  # by how many levels a block may be off

Found = tuple[str, bytes, int]  # name, file, levels that it may be off


def pictures() -> Iterator[Found]:
    """Yield files that show the ramp."""
    grey = Image.fromarray(RAMP)
    yield from _pngs(grey)
    yield from _tiffs(grey)
    yield from _jpegs(grey.convert("RGB"))
    yield from _turned(grey.convert("RGB"))
    yield from _others(grey)


def unknowable() -> Iterator[tuple[str, bytes]]:
    """Yield pictures of which nothing says what is white, or of which pixels are lost."""
    for name, values in (
        ("floats to 1", (RAMP / 255).astype(np.float32)),
        ("floats to 255", RAMP.astype(np.float32)),
        ("integers to 255", RAMP.astype(np.int32)),
        ("integers of 32 bits", WORDS.astype(np.int32) * 32767),
    ):
        yield f"tiff {name}", saved(Image.fromarray(values), "TIFF")
    whole = saved(Image.fromarray(RAMP).convert("RGB"), "JPEG")
    half = whole[: (len(whole) + whole.index(b"\xff\xda")) // 2]
    for name, data in (
        ("", half),
        (" and ended", half + b"\xff\xd9"),
        (" padded", half + bytes(9)),
    ):
        yield f"jpeg cut{name}", data
    yield "png cut", saved(Image.fromarray(RAMP), "PNG")[:-40]


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return an image as a file of Pillow's format `form`."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def right(pixels: np.ndarray, off: int) -> bool:
    """Tell whether pixels (H, W, 3) show the ramp at the middle of each block."""
    if pixels.shape != (SIZE[1], SIZE[0], 3):
        return False
    middle = slice(SIDE // 2, None, SIDE)
    wanted = RAMP[middle, middle, None].astype(int)
    return bool((np.abs(pixels[middle, middle] - wanted) <= off).all())


def png(values: np.ndarray, bits: int, kind: int, clear: tuple[int, ...] = ()) -> bytes:
    """Write a PNG (H, W, channels) of any depth; `clear` is the level that is transparent."""
    high, wide, channels = values.shape
    rows = values.reshape(high, wide * channels)
    if bits == 16:
        raw = rows.astype(">u2").view(np.uint8).reshape(high, -1)
    else:
        ones = rows[..., None] >> np.arange(bits - 1, -1, -1) & 1  # (H, W, bits)
        raw = np.packbits(ones.reshape(high, -1).astype(np.uint8), axis=1)
    raw = np.concatenate([np.zeros((high, 1), np.uint8), raw], 1)  # filter 0 in front of each row
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", wide, high, bits, kind, 0, 0, 0))]
    if clear:
        chunks.append((b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    chunks += [(b"IDAT", zlib.compress(raw.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def tiff(
    values: np.ndarray, photometric: int, order: Literal["<", ">"] = "<", bits: int = 0
) -> bytes:
    """Write a TIFF (H, W, channels) as Pillow cannot; `order` is that of bytes."""
    high, wide, channels = values.shape
    width = bits or 8 * values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:  # two samples in three bytes
        a, b = values.reshape(-1, 2).astype(np.uint32).T
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()
    after = 8 + 2 + 12 * 10 + 4  # header, ten entries
    entries = [(256, 4, 1, wide), (257, 4, 1, high), (258, 3, channels, width), (259, 3, 1, 1),
               (262, 3, 1, photometric), (273, 4, 1, after + 16), (277, 3, 1, channels),
               (278, 4, 1, high), (279, 4, 1, len(data)), (284, 3, 1, 1)]  # fmt: skip
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        if tag == 258 and count > 2:  # does not fit into its entry
            value, form = after, "I"
        else:
            form = "HH" if kind == 3 else "I"
        fields = (value, value if count == 2 else 0) if form == "HH" else (value,)
        out += struct.pack(order + "HHI" + form, tag, kind, count, *fields)
    return out + bytes(4) + struct.pack(order + "8H", *[width] * 8) + data


def _pngs(grey: Image.Image) -> Iterator[Found]:
    alpha = np.full_like(RAMP, 255)
    for bits in (1, 2, 4):
        most = (1 << bits) - 1
        low = np.rint(RAMP / 255 * most).astype(np.uint8)
        off = 128 // most
        yield f"png grey {bits} bits", png(low[..., None], bits, 0), off
        yield f"png grey {bits} bits, white clear", png(low[..., None], bits, 0, (most,)), off
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        off = 128 if mode == "1" else LOSSLESS
        image = grey.convert("L").convert(mode) if mode != "I;16" else Image.fromarray(WORDS)
        yield f"png {mode}", saved(image if mode != "1" else grey.point(_black, "1"), "PNG"), off
    for kind, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        many = np.stack([WORDS] * channels, -1)
        if kind >= 4:
            many[..., -1] = 65535
        yield f"png 16 bits, {channels} channels", png(many, 16, kind), LOSSLESS
    # what is transparent is white: here the white itself, in black
    hidden = np.stack([RAMP, np.where(RAMP == 255, 0, alpha)], -1)
    hidden[RAMP == 255, 0] = 0
    yield "png LA, white clear", saved(Image.fromarray(hidden), "PNG"), LOSSLESS
    four = np.stack([hidden[..., 0]] * 3 + [hidden[..., 1]], -1)
    yield "png RGBA, white clear", saved(Image.fromarray(four), "PNG"), LOSSLESS
    key = np.where(RAMP == 255, 77, RAMP)[..., None]
    yield "png grey, a level clear", png(key, 8, 0, (77,)), LOSSLESS
    words = np.where(RAMP == 255, 7777, WORDS)[..., None]
    yield "png 16 bits, a level clear", png(words, 16, 0, (7777,)), LOSSLESS
    yield "png 48 bits, a colour clear", png(words.repeat(3, 2), 16, 2, (7777,) * 3), LOSSLESS
    palette = Image.fromarray(key[..., 0]).convert("P")
    yield "png P, a colour clear", saved(palette, "PNG", transparency=77), LOSSLESS


def _black(level: int) -> int:
    return 255 * (level >= 128)


def _tiffs(grey: Image.Image) -> Iterator[Found]:
    cmyk, lab = grey.convert("RGB").convert("CMYK"), _lab(grey)
    for image in (*map(grey.convert, ("L", "LA", "P", "RGB", "RGBA", "YCbCr")), cmyk, lab):
        off = 3 if image.mode in ("LAB", "YCbCr") else LOSSLESS
        yield f"tiff {image.mode}", saved(image, "TIFF"), off
    for mode in ("I;16", "I;16B", "I"):
        values = WORDS.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode])
        yield f"tiff {mode}", saved(Image.fromarray(values), "TIFF"), LOSSLESS
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[340], tags[341] = -1.0, 3.0
    tags.tagtype[340] = tags.tagtype[341] = 11
    floats = Image.fromarray((RAMP / 255 * 4 - 1).astype(np.float32))
    yield "tiff F with a range", saved(floats, "TIFF", tiffinfo=tags), LOSSLESS
    for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        off = LOSSY if how == "jpeg" else LOSSLESS
        yield f"tiff {how}", saved(grey.convert("RGB"), "TIFF", compression=how), off
    yield "tiff 1, group4", saved(grey.point(_black, "1"), "TIFF", compression="group4"), 128
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        for channels in (3, 4):
            many = np.stack([WORDS] * channels, -1)
            many[..., 3:] = 65535
            yield f"tiff 16 bits, {channels} channels {order}", tiff(many, 2, order), LOSSLESS
    yield "tiff 16 bits, white is 0", tiff(65535 - WORDS[..., None], 0), LOSSLESS
    yield "tiff 8 bits, white is 0", tiff(255 - RAMP[..., None], 0), LOSSLESS
    yield "tiff 12 bits", tiff(np.rint(WORDS / 65535 * 4095)[..., None], 1, bits=12), LOSSLESS


def _lab(grey: Image.Image) -> Image.Image:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(grey.convert("RGB"), rgb, lab, outputMode="LAB")
    assert found is not None
    return found


def _jpegs(rgb: Image.Image) -> Iterator[Found]:
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"jpeg {mode}", saved(rgb.convert(mode), "JPEG", quality=95), LOSSY
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"jpeg {sampling}", saved(rgb, "JPEG", quality=90, subsampling=sampling), LOSSY
    yield "jpeg progressive", saved(rgb, "JPEG", quality=90, progressive=True), LOSSY
    whole = saved(rgb, "JPEG", quality=90)
    scan = bytearray(whole)
    at = scan.index(b"\xff\xda")
    scan[at + 6 + 2 * scan[at + 4]] = 0  # the last coefficient of a sequential scan
    marked = saved(rgb, "JPEG", quality=90, restart_marker_blocks=4)
    third = marked.index(b"\xff\xd3")
    for name, data in (
        ("a byte before its end", whole[:-2] + b"\x7f" + whole[-2:]),
        ("many bytes before its end", whole[:-2] + bytes(40) + whole[-2:]),
        ("odd scan header", bytes(scan)),
        ("restart markers", marked),
        ("bytes before a restart", marked[:third] + b"\x55" * 10 + marked[third:]),
        ("another behind it", whole * 2),
        ("junk behind it", whole + b"junk" * 99),
    ):
        yield f"jpeg, {name}", data, LOSSY
    other = rgb.transpose(_METHODS.ROTATE_180)
    yield "mpo", saved(rgb, "MPO", save_all=True, append_images=[other], quality=95), LOSSY


def _turned(rgb: Image.Image) -> Iterator[Found]:
    for orientation, method in _STORED.items():
        stored = rgb.transpose(method)
        exif = stored.getexif()
        exif[ORIENTATION] = orientation
        for form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
            off = LOSSLESS if form in ("PNG", "TIFF") else LOSSY
            data = saved(stored, form, exif=exif, quality=95)
            yield f"{form.lower()} turned, {orientation}", data, off
    for orientation in (3, 6):
        stored, xmp = rgb.transpose(_STORED[orientation]), _XMP % orientation
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        yield f"png turned by XMP, {orientation}", saved(stored, "PNG", pnginfo=text), LOSSLESS
        yield f"jpeg turned by XMP, {orientation}", saved(stored, "JPEG", xmp=xmp), LOSSY


def _others(grey: Image.Image) -> Iterator[Found]:
    rgb, words = grey.convert("RGB"), Image.fromarray(WORDS)
    for form, modes in (
        ("BMP", ("L", "P", "RGB")), ("GIF", ("L", "P", "RGB")), ("PPM", ("L", "RGB")),
        ("PCX", ("L", "P", "RGB")), ("TGA", ("L", "RGB", "RGBA")), ("SGI", ("L", "RGB")),
        ("QOI", ("RGB", "RGBA")), ("DDS", ("RGB",)), ("JPEG2000", ("L", "LA", "RGB", "RGBA")),
    ):  # fmt: skip
        for mode in modes:
            yield f"{form.lower()} {mode}", saved(grey.convert(mode), form), LOSSLESS
    yield "bmp 1", saved(grey.point(_black, "1"), "BMP"), 128
    yield "pgm 16 bits", saved(words, "PPM"), LOSSLESS
    dark = b"P5 %d %d 1023\n" % SIZE + np.rint(RAMP / 255 * 1023).astype(">u2").tobytes()
    yield "pgm 10 bits", dark, LOSSLESS
    yield "jpeg2000 16 bits", saved(words, "JPEG2000"), LOSSLESS
    yield "ico", saved(grey.convert("RGBA"), "ICO", sizes=[SIZE]), LOSSLESS
    for mode in ("RGB", "RGBA"):
        yield f"webp {mode}", saved(rgb.convert(mode), "WEBP", quality=95), LOSSY
        yield f"webp {mode}, lossless", saved(rgb.convert(mode), "WEBP", lossless=True), LOSSLESS
        yield f"avif {mode}", saved(rgb.convert(mode), "AVIF", quality=95), LOSSY
    yield "avif L", saved(grey, "AVIF", quality=95), LOSSY
