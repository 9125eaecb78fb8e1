"""Subtitle files (SRT, WebVTT, ASS, SSA), and which of them belong to a video."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import av
import langcodes
from av.error import FFmpegError
from charset_normalizer import from_bytes

from zsvg.errors import TranscriptError
from zsvg.places.urls import place_of
from zsvg.records import video_key
from zsvg.transcripts.cues import cues_of
from zsvg.transcripts.lines import Line, tidy
from zsvg.video.containers import packets, reason
from zsvg.video.finding import VIDEO_SUFFIXES

_log = logging.getLogger(__name__)

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")

_MOST_BYTES = 50_000_000  # a day of film has two megabytes; fansubs that animate letters, twenty
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),  # before UTF-16, whose mark begins alike
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# What programs wrote before UTF-8, and which of them is meant where letters fit two equally well.
_LEGACY = (
    *(f"cp{number}" for number in range(1250, 1259)),
    *("koi8_r", "gb18030", "big5", "cp932", "euc_jp", "cp949"),
)
_WESTERN = "cp1252"
_OTHERS = {
    **dict.fromkeys(("bs", "cs", "hr", "hu", "pl", "ro", "sk", "sl", "sq"), "cp1250"),
    "ja": "euc_jp",
}
_SAVE = "save it as UTF-8 (`iconv -f ITS-ENCODING -t UTF-8`)"
_NO_LANGUAGE = ("und", "mul", "mis", "zxx")
_BEFORE_ZERO = re.compile(r"(?<![\w:.])-\d+:\d\d:\d\d[.,]\d+")
_TIMES = re.compile(r"^(?:.*-->.*|Dialogue:[^,]*,[^,]*,[^,]*)", re.MULTILINE)


def read_subtitles(path: str | Path, language: str = "") -> list[Line]:
    """Read a file of subtitles; what is in it says which kind it is.

    Markup, drawings, styles and notes are left out, entities are decoded; `tidy` says what becomes
    of times out of order and of captions that roll up. A file without a byte order mark that is not
    UTF-8 is read in the encoding that its letters make likely, and a warning names it.

    Args:
        path: The file.
        language: Of its lines; "" takes that of a WebVTT header, if there is one.

    Returns:
        At least one line, in the order of their times.

    Raises:
        TranscriptError: It is missing, empty, no text, in no known encoding, or has no line.
    """
    path = place_of(path)
    text = _text(path, language)
    if re.match(r"\s*WEBVTT", text):
        kind = "webvtt"
        said = re.search(r"^Language:\s*(\S+)", text.partition("\n\n")[0], re.MULTILINE)
        language = language or language_tag(said[1] if said else "")
    else:
        ass = re.search(r"^\s*\[(Script Info|Events)\]", text, re.MULTILINE | re.IGNORECASE)
        kind = "ass" if ass else "srt"
    # FFmpeg overlooks the minus of times that a program has moved to before the beginning.
    text = _TIMES.sub(lambda line: _BEFORE_ZERO.sub("0:00:00.000", line[0]), text)
    try:
        with av.open(io.BytesIO(text.encode()), format=kind) as container:
            stream = container.streams.subtitles[0]
            shown = ((packet, 0.0) for packet in packets(container, stream))
            cues = [cue for cue in cues_of(shown, kind) if cue.end > 0]
    except (FFmpegError, IndexError, ValueError) as error:
        raise TranscriptError(
            f"{path}: cannot be read as {kind.upper()} ({reason(error)}); write it again"
        ) from error
    if not (lines := tidy(cues, language, path.name)):
        raise TranscriptError(
            f"{path}: no line of text in it (read as {kind.upper()}); is it a file of subtitles?"
        )
    return lines


def sidecars(video: str | Path) -> list[Path]:
    """Return the subtitle files beside a video, as of `sidecars_of`."""
    video = place_of(video)
    return sidecars_of([video])[video]


def sidecars_of(videos: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the subtitle files beside each of some videos, sorted by name.

    Those are NAME.srt, NAME.en.srt, NAME.pt-BR.forced.vtt and so on, where the video is NAME.mp4.
    One that also fits a video with a longer name, as "a.b.srt" fits "a.mp4" and "a.b.mp4", belongs
    to that video alone. Each folder is listed once.

    Args:
        videos: They need not be there, their folders must be.

    Raises:
        OSError: A folder cannot be listed.
    """
    folders: dict[Path, list[Path]] = {}
    for video in videos:
        folders.setdefault(video.parent, []).append(video)
    found: dict[Path, list[Path]] = {}
    for folder, own in folders.items():
        names = [*folder.iterdir(), *own]
        filmed = {video_key(name.stem) for name in names if name.suffix.lower() in VIDEO_SUFFIXES}
        filmed |= {video_key(video.stem) for video in own}
        beside: dict[str, list[Path]] = {}
        for file in sorted(set(names)):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                stem = video_key(file.stem)
                while stem and stem not in filmed:
                    stem = stem.rpartition(".")[0]
                beside.setdefault(stem, []).append(file)
        found |= {video: beside.get(video_key(video.stem), []) for video in own}
    return found


def language_beside(video: str | Path, sidecar: str | Path) -> str:
    """Return the language in the name of a sidecar, "" where it has none: NAME.LANGUAGE.srt.

    What follows the video's name is taken, so that no word of the name itself passes for one. Only
    languages with a code of two letters count: nearly every word of three is one, too.
    """
    more = video_key(place_of(sidecar).stem)[len(video_key(place_of(video).stem)) + 1 :]
    tags = map(language_tag, more.split("."))
    return next((tag for tag in tags if len(tag.partition("-")[0]) == 2), "")


def language_tag(name: str) -> str:
    """Return a language's BCP 47 tag, such as "de" for "ger" and "pt-BR" for "pt_br", else ""."""
    if not name or not langcodes.tag_is_valid(name):
        return ""
    tag = langcodes.standardize_tag(name)
    return "" if tag.partition("-")[0] in _NO_LANGUAGE else tag


def _text(path: Path, language: str) -> str:
    """Return what a file says, with the ends of lines that Python has.

    Raises:
        TranscriptError: It cannot be read as text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise TranscriptError(f"{path}: cannot be read ({reason(error)}); check the path") from None
    if len(data) > _MOST_BYTES:
        raise TranscriptError(
            f"{path}: more than {_MOST_BYTES // 1_000_000} MB, too much for subtitles; is it one?"
        )
    if not data.strip():
        raise TranscriptError(f"{path}: the file is empty; write it again, or remove it")
    return io.StringIO(_decoded(path, data, language), newline=None).read()


def _decoded(path: Path, data: bytes, language: str) -> str:
    marked = next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)
    try:
        text = data.decode(marked or "utf-8")
        if "\0" not in text:
            return text
    except UnicodeDecodeError as error:
        if marked:
            raise TranscriptError(
                f"{path}: begins as {marked.upper().removesuffix('-SIG')}, but is not "
                f"({error.reason} at byte {error.start}); {_SAVE}"
            ) from None
    if b"\0" in data:
        raise TranscriptError(f"{path}: a binary file, not subtitles; give a text file, or rename")
    if not (fitting := list(from_bytes(data, cp_isolation=list(_LEGACY)))):
        raise TranscriptError(f"{path}: neither UTF-8 nor any other known encoding; {_SAVE}")
    usual = _OTHERS.get(language.partition("-")[0], _WESTERN)
    likely = min(fitting, key=lambda one: (one.chaos, -one.coherence, one.encoding != usual))
    _log.warning(
        "%s: not UTF-8, read as %s (%s); if its letters are wrong, %s",
        path, likely.encoding, likely.language, _SAVE,
    )  # fmt: skip
    return str(likely)
