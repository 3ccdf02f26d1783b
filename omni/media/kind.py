"""What a file is by its first bytes, whatever its name says."""

from .ffmpeg import open_av

_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*",
           b"\0\0\0\x0cjP  ", b"qoif")  # fmt: skip
_SOUNDS = (b"fLaC", b"ID3", b"RF64", b".snd", b"caff", b"#!AMR")
_EITHER = (b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"0&\xb2u")  # Matroska and WebM, Ogg, FLV, ASF
_FORMS = {b"WEBP": "image", b"WAVE": "audio", b"AIFF": "audio", b"AIFC": "audio"}  # of RIFF, FORM
_PICTURES = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc", b"hevx")  # of ISO files


def kind_by_content(data: bytes) -> str | None:
    """Return image, audio or video; None: these bytes do not say.

    A container of sound or video is opened to see which of them it holds.
    """
    if data.startswith(_IMAGES):
        return "image"
    if data.startswith(_SOUNDS) or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return "audio"
    if data[:4] in (b"RIFF", b"FORM") and (kind := _FORMS.get(data[8:12])):
        return kind
    if data[4:8] == b"ftyp" and data[8:12] in _PICTURES:
        return "image"
    if data[4:8] == b"ftyp" or data[:4] == b"RIFF" or data.startswith(_EITHER):
        return _streams(data)
    return None


def _streams(data: bytes) -> str | None:
    import av
    from av.stream import Disposition

    try:
        with open_av(data) as container:
            cover = Disposition.attached_pic
            if any(not stream.disposition & cover for stream in container.streams.video):
                return "video"
            return "audio" if container.streams.audio else None
    except (av.FFmpegError, ValueError):
        return None
