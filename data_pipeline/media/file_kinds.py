"""Which files of a folder are media, by their names: the one list of suffixes that are read."""

from __future__ import annotations

import os
import unicodedata

# The usual ones first: a clip that is named without suffix is looked for in this order.
VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".3gp", ".3g2", ".3gpp", ".qt", ".asf", ".f4v", ".vob"),
    *(".ogv", ".ogm", ".ogx", ".mxf", ".gxf", ".dv", ".dif", ".divx", ".xvid", ".rm", ".rmvb"),
    *(".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".mp2v", ".mod", ".tod", ".trp", ".tp", ".vro"),
    *(".evo", ".dvr-ms", ".wtv", ".mk3d", ".mj2", ".mjpg", ".mjpeg", ".ismv", ".lrv", ".insv"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".ivf", ".y4m", ".nut", ".nsv"),
    *(".amv", ".dav", ".gif", ".apng"),
)
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".m4b", ".m4p", ".m4r", ".mp1", ".mp2", ".mpa", ".mpga", ".wma", ".amr"),
    *(".3ga", ".awb", ".oga", ".spx", ".caf", ".mka", ".weba", ".ac3", ".eac3", ".ec3", ".dts"),
    *(".ape", ".wv", ".tta", ".tak", ".w64", ".rf64", ".bwf", ".voc", ".gsm", ".adts", ".loas"),
    *(".latm", ".ra", ".qcp", ".sph", ".nist", ".dsf", ".mpc", ".shn", ".mlp", ".thd", ".oma"),
)
PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx"),
)
MEDIA_SUFFIXES = frozenset(VIDEO_SUFFIXES + AUDIO_SUFFIXES)  # what has a duration
# Files that accompany media and are never meant as one.
_COMPANION_SUFFIXES = frozenset(
    ".srt .vtt .ass .ssa .txt .csv .tsv .json .jsonl .xml .xlsx .md .pdf .html .eaf .textgrid "
    ".npy .npz .p .pkl .parquet .log .py .yaml .yml .sha256 .md5".split()
)
# What systems and cameras leave behind, besides names that begin with a dot.
_SYSTEM_NAMES = frozenset(
    "thumbs.db|ehthumbs.db|desktop.ini|icon\r|__macosx|@eadir|#recycle|$recycle.bin|"
    "system volume information|lost+found".split("|")
)
UNFINISHED_SUFFIXES = (".part", ".crdownload", ".download", ".partial", ".opdownload", ".!ut")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix of a file's name in lower case, with its dot."""
    return os.path.splitext(os.fspath(path))[1].lower()


def fold_name(name: str) -> str:
    """The form of a name that all its spellings have in common: é is one letter or two."""
    return unicodedata.normalize("NFC", name).casefold()


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a still picture, by its suffix."""
    return suffix_of(path) in PICTURE_SUFFIXES


def is_media(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a film, a sound or a picture, by its suffix."""
    return suffix_of(path) in MEDIA_SUFFIXES or is_picture(path)


def is_companion(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of subtitles, annotations or other texts, by its suffix."""
    return suffix_of(path) in _COMPANION_SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether systems hide a file or folder of this name: `._clip.mp4`, `.git`, `Thumbs.db`.

    A placeholder of iCloud, `.clip.mp4.icloud`, is not hidden: it marks a file that the user has.
    """
    hidden = name.startswith(".") and not name.endswith(".icloud")
    return hidden or name.lower() in _SYSTEM_NAMES
