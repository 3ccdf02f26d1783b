"""Files that FFmpeg opens, and nothing else that they name."""

import io
from typing import Any

# of FFmpeg's formats those that are one file; playlists and lists would open files and hosts
FORMATS = (
    "mov,matroska,ogg,mp3,aac,flac,wav,w64,asf,amr,aiff,caf,au,ac3,eac3,ape,wv,tta,mpc,mpc8,"
    "avi,mpegts,mpeg,flv,gif,rm,ivf"
)


def open_av(data: Any) -> Any:
    """Open bytes with FFmpeg so that they cannot make it read anything else; raises its errors."""
    import av

    # not `options`, which go to the streams too: where the first packets bring more streams than
    # the header names, as in FLV, PyAV 15 then frees what it never had
    return av.open(io.BytesIO(data), container_options={"format_whitelist": FORMATS})
