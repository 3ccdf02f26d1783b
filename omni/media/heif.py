"""HEIC pictures, which Pillow reads once the extra `heic` is installed."""

from importlib import import_module

from .limits import MediaError

# brands of ISO 23008-12 for HEVC; those of AV1 are AVIF, which Pillow knows
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def know_heic(data: bytes) -> None:
    """Teach Pillow the format if `data` is a HEIC picture.

    Raises:
        MediaError: it is, and the extra is not installed.
    """
    if data[4:8] != b"ftyp":
        return
    box = data[8 : int.from_bytes(data[:4], "big")]
    brands = {box[at : at + 4] for at in range(0, len(box), 4) if at != 4}  # at 4 is a version
    if not brands & _BRANDS:
        return
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise MediaError(
            "a HEIC picture: install what reads them with `uv pip install -e .[heic]`, or save it "
            "as JPEG"
        ) from error
