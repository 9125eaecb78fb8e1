"""Moments as timelines for video editors: OpenTimelineIO, EDL (CMX 3600) and FCPXML.

Each moment is a clip of its file, in whole frames of that file, counted from the timecode that the
file carries, else from 0; they follow each other in the order of the answer. Editors know a few
frame rates: another one (variable, or slow as of screen captures) is counted at the one of these
that is nearest to it or to a multiple of it, which keeps the seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Xml

from zsvg.errors import CONTROLS, ITEM_ERRORS, VideoError, ZsvgError, failure
from zsvg.files import write_text
from zsvg.places.urls import address_of

if TYPE_CHECKING:
    from opentimelineio.schema import Timeline

TIMELINES = ("otio", "edl", "fcpxml")
"""Name of each form, which is also the suffix of its files."""

RATES = tuple(
    Fraction(rate) for rate in ("24000/1001", 24, 25, "30000/1001", 30, 48, 50, "60000/1001", 60)
)
"""Frames a second of the timelines of editors."""

_REEL = 8  # letters and digits of a tape's name in CMX 3600
_RESERVED = ("AX", "BL", "BLACK", "BARS")  # no tapes, in an EDL


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A moment of a video file.

    Attributes:
        path: The file.
        start: Seconds.
        end: Seconds.
        sentence: What was asked.
        score: Where there is one.
        url: What editors are told of where the file is; None: its path.
    """

    path: Path
    start: float
    end: float
    sentence: str
    score: float | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Media:
    """A file as editors see it: all frames, the first of them numbered by its timecode."""

    path: Path
    url: str
    rate: Fraction
    first: int
    frames: int
    size: tuple[int, int]
    sound: bool
    reel: str = ""

    @property
    def name(self) -> str:
        return _plain(self.path.name)


@dataclass(frozen=True, kw_only=True)
class _Clip:
    """Frames [first, last) of a file, numbered as its own."""

    media: _Media
    first: int
    last: int
    sentence: str
    score: float | None

    @property
    def note(self) -> str:
        return self.sentence if self.score is None else f"{self.sentence} ({self.score:.3f})"


def check_editors(what: str) -> None:
    """Refuse a timeline where its packages are missing.

    Args:
        what: What the message says to need them.

    Raises:
        ZsvgError: They are not installed.
    """
    try:
        import opentimelineio  # noqa: F401
        import otio_cmx3600_adapter  # noqa: F401
    except ImportError:
        raise ZsvgError(f"{what}: needs OpenTimelineIO: pip install 'zsvg[editors]'") from None


def write_timelines(
    path: Path, form: str, shots: Iterable[Shot], failures: list[str] | None = None
) -> list[Path]:
    """Write a timeline; an EDL counts in one frame rate, so several rates give NAME.RATE.edl.

    Args:
        path: The file.
        form: One of `TIMELINES`.
        shots: Moments, in their order on the timeline.
        failures: Takes, a line each, why files cannot be used: their moments are left out. None:
            such a file is an error.

    Returns:
        The files written.

    Raises:
        ZsvgError: There is no moment, or a file has no frame rate.
        VideoError: A file is no video that can be read.
    """
    clips = _clips(shots, failures)
    parts = _by_rate(clips) if form == "edl" else {}
    if len(parts) < 2:
        parts, files = {"": clips}, [path]
    else:
        files = [path.with_name(f"{path.stem}.{rate}{path.suffix}") for rate in parts]
    for file, some in zip(files, parts.values(), strict=True):
        write_text(file, _text(form, some, _plain(path.stem)))
    return files


def timeline_text(form: str, shots: Iterable[Shot], failures: list[str] | None = None) -> str:
    """Return what `write_timelines` writes into one file.

    Args:
        form: As of `write_timelines`, like the others.
        shots: Moments.
        failures: Takes why files cannot be used.

    Raises:
        ZsvgError: As of `write_timelines`, or an EDL of several frame rates.
    """
    clips = _clips(shots, failures)
    if form == "edl" and len(rates := _by_rate(clips)) > 1:
        raise ZsvgError(
            f"edl counts in one frame rate, and these videos have {', '.join(rates)}; give otio or "
            "fcpxml, or -o NAME.edl for a file each"
        )
    return _text(form, clips, "moments")


def editing_rate(fps: float) -> Fraction:
    """Return the one of `RATES` nearest to a rate, or to a multiple of it.

    Args:
        fps: Frames a second, of a variable rate the average.
    """
    return min(RATES, key=lambda rate: abs(rate / fps - max(1, round(rate / fps))))


def _clips(shots: Iterable[Shot], failures: list[str] | None) -> list[_Clip]:
    """Return moments in whole frames, at least one each, none outside its file."""
    medias: dict[Path, _Media] = {}
    wrong: dict[Path, Exception] = {}
    clips = []
    for shot in shots:
        if shot.path not in medias and shot.path not in wrong:
            try:
                medias[shot.path] = _media(shot.path, shot.url)
            except ITEM_ERRORS as error:
                if failures is None:
                    raise
                wrong[shot.path] = error
        if shot.path in wrong:
            continue
        media = medias[shot.path]
        rate, end = float(media.rate), media.frames
        times = (min(max(time, 0.0), end / rate) for time in (shot.start, shot.end))
        first, last = (round(time * rate) for time in times)
        first = min(first, end - 1)
        last = max(last, first + 1)
        clips.append(
            _Clip(
                media=media,
                first=media.first + first,
                last=media.first + last,
                sentence=_plain(shot.sentence),
                score=shot.score,
            )
        )
    if not clips:
        raise next(iter(wrong.values()), ZsvgError("there are no moments to put on a timeline"))
    if failures is not None:
        failures += [
            f"{failure(path, error)}; it is not on the timeline" for path, error in wrong.items()
        ]
    reels = _reels(medias.values())
    return [replace(c, media=replace(c.media, reel=reels[c.media.path])) for c in clips]


def _media(path: Path, url: str | None) -> _Media:
    from opentimelineio.opentime import from_timecode

    from zsvg.features.from_files import holds_features
    from zsvg.video.reading import probe

    if holds_features(path):
        raise VideoError(f"{path}: features, and a timeline refers to videos")
    info = probe(path)
    if not info.fps:
        raise ZsvgError(f"{path}: has no frame rate, in which editors count; re-encode it with one")
    rate, first = editing_rate(info.fps), 0
    if info.timecode:
        with suppress(ValueError):  # it counts in another rate than the pictures do
            first = round(from_timecode(info.timecode, float(rate)).value)
    upright = info.rotation % 180 == 0
    return _Media(
        path=path,
        url=url or address_of(path),
        rate=rate,
        first=first,
        frames=max(round(info.duration * rate), 1),
        size=(info.width, info.height) if upright else (info.height, info.width),
        sound=info.sound,
    )


def _reels(medias: Iterable[_Media]) -> dict[Path, str]:
    """Return names of tapes: the letters of the file's name; other files have other ones."""
    reels: dict[Path, str] = {}
    taken = {*_RESERVED}
    for media in medias:
        base = re.sub("[^A-Z0-9]", "", media.path.stem.upper()) or "CLIP"
        reel, number = base[:_REEL], 1
        while reel in taken:
            number += 1
            reel = f"{base[: _REEL - len(str(number))]}{number}"
        taken.add(reel)
        reels[media.path] = reel
    return reels


def _by_rate(clips: Iterable[_Clip]) -> dict[str, list[_Clip]]:
    parts: dict[str, list[_Clip]] = {}
    for clip in clips:
        parts.setdefault(f"{round(float(clip.media.rate), 3):g}", []).append(clip)
    return parts


def _text(form: str, clips: Sequence[_Clip], name: str) -> str:
    return {"otio": _otio, "edl": _edl, "fcpxml": _fcpxml}[form](clips, name)


def _rate_of(clips: Iterable[_Clip]) -> Fraction:
    """Return the frame rate of a timeline: that of the most moments, of equal ones the first."""
    return Counter(clip.media.rate for clip in clips).most_common(1)[0][0]


def _timeline(clips: Sequence[_Clip], name: str) -> Timeline:
    from opentimelineio.opentime import RationalTime, TimeRange
    from opentimelineio.schema import Clip, ExternalReference, Marker, Timeline, Track

    def span(first: int, frames: int, media: _Media) -> Any:
        rate = float(media.rate)
        return TimeRange(RationalTime(first, rate), RationalTime(frames, rate))

    track = Track(name="V", kind="Video")
    for clip in clips:
        media = clip.media
        own = span(clip.first, clip.last - clip.first, media)
        track.append(
            Clip(
                name=media.name,
                media_reference=ExternalReference(
                    target_url=media.url, available_range=span(media.first, media.frames, media)
                ),
                source_range=own,
                markers=[Marker(name=clip.sentence, marked_range=own)],
                metadata={
                    "zsvg": {"query": clip.sentence, "score": clip.score},
                    "cmx_3600": {"reel": media.reel, "comments": [f"COMMENT: {clip.note}"]},
                },
            )
        )
    timeline = Timeline(name=name, global_start_time=RationalTime(0, float(_rate_of(clips))))
    timeline.tracks.append(track)
    return timeline


def _otio(clips: Sequence[_Clip], name: str) -> str:
    return f"{_timeline(clips, name).to_json_string(indent=2)}\n"


def _edl(clips: Sequence[_Clip], name: str) -> str:
    """Return events by reel and name of the file; 29.97 and 59.94 count drop-frame."""
    from opentimelineio.adapters import write_to_string

    timeline = _timeline(clips, name)
    for clip in timeline.find_clips():
        clip.markers.clear()  # as locators they would be in capitals
    rate = _rate_of(clips)
    text: str = write_to_string(timeline, "cmx_3600", rate=float(rate))
    drop = "DROP FRAME" if rate.denominator > 1 and rate > 24 else "NON-DROP FRAME"
    return text.replace("\n\n", f"\nFCM: {drop}\n\n", 1)


def _fcpxml(clips: Sequence[_Clip], name: str) -> str:
    """Return FCPXML 1.8.

    It is written here: the adapter of OpenTimelineIO leaves out the frame duration at 24000/1001,
    without which no program reads the file, and fails at names with quotes.
    """
    root = Xml.Element("fcpxml", version="1.8")
    resources = Xml.SubElement(root, "resources")
    formats: dict[tuple[Fraction, tuple[int, int]], str] = {}
    assets: dict[Path, str] = {}
    for media in (clip.media for clip in clips):
        key = media.rate, media.size
        if key not in formats:
            formats[key] = f"r{len(resources) + 1}"
            width, height = map(str, media.size)
            Xml.SubElement(
                resources, "format", id=formats[key], frameDuration=_seconds(1, media.rate),
                width=width, height=height,
            )  # fmt: skip
        if media.path not in assets:
            assets[media.path] = f"r{len(resources) + 1}"
            asset = Xml.SubElement(
                resources, "asset", id=assets[media.path], name=media.name, src=media.url,
                start=_seconds(media.first, media.rate), format=formats[key], hasVideo="1",
                duration=_seconds(media.frames, media.rate),
            )  # fmt: skip
            if media.sound:
                asset.attrib |= {"hasAudio": "1", "audioSources": "1", "audioChannels": "2"}
    rate = _rate_of(clips)
    shape = next(clip.media.size for clip in clips if clip.media.rate == rate)
    event = Xml.SubElement(Xml.SubElement(root, "library"), "event", name=name)
    sequence = Xml.SubElement(
        Xml.SubElement(event, "project", name=name), "sequence", format=formats[rate, shape],
        tcStart="0s", tcFormat="NDF",
    )  # fmt: skip
    spine, offset = Xml.SubElement(sequence, "spine"), 0
    for clip in clips:
        media, start = clip.media, _seconds(clip.first, clip.media.rate)
        # Edits lie between frames of the timeline, whatever the rate of what is shown.
        frames = max(round((clip.last - clip.first) / media.rate * rate), 1)
        element = Xml.SubElement(
            spine, "asset-clip", name=media.name, ref=assets[media.path], start=start,
            format=formats[media.rate, media.size], offset=_seconds(offset, rate),
            duration=_seconds(frames, rate),
        )  # fmt: skip
        Xml.SubElement(element, "note").text = clip.note
        Xml.SubElement(
            element, "marker", start=start, duration=_seconds(1, media.rate), value=clip.sentence
        )
        offset += frames
    sequence.set("duration", _seconds(offset, rate))
    Xml.indent(root)
    text = Xml.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{text}\n'


def _seconds(frames: int, rate: Fraction) -> str:
    time = frames / rate
    return f"{time.numerator}/{time.denominator}s" if time.denominator > 1 else f"{time}s"


def _plain(text: str) -> str:
    """Return one line without the characters that XML cannot hold."""
    return re.sub(f"[{CONTROLS}\ufffe\uffff]", "", " ".join(text.split()))
