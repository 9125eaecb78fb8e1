"""One model of a file's time: from its index, or one pass over its packets, without decoding.

Clocks of files begin anywhere, jump, and start again; headers claim lengths that no picture fills.
Time here is that of what is shown: it begins at 0, grows, and ends with the last picture, or with
the sound if that goes on. `Timeline` maps the clock to it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from zsvg.places.urls import absolute, place_of, state_of
from zsvg.video.containers import ends_early, film_of, open_container, packets, reason, recordings

_log = logging.getLogger(__name__)

_DISCONTINUOUS = 0x200  # FFmpeg's AVFMT_TS_DISCONT: the clock may jump, as in broadcasts
_ELEMENTARY = frozenset({"h264", "hevc", "m4v", "mpegvideo", "mjpeg", "av1", "obu", "vc1"})

# Muxers that are not careful step back by a frame or two; a clock that starts again by more.
_BACK = 0.2
# FFmpeg's own limit for clocks that may jump. In other files a picture may stand for long: screens
# are recorded only when something changes.
_BREAK = 10.0
LONGEST_STILL = 3600.0
# Clocks of less than a second are delays that players keep, between pictures and sound.
_DELAY = 1.0
# Until when pictures may follow sound, or sound pictures, to belong to each other without more.
_TOGETHER = 10.0


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """How the clock of a file becomes the time of what it shows.

    Attributes:
        shifts: (packet, seconds) in rising order: from this packet of the film on, counted from 0,
            time is the clock less so many seconds. More than one where the clock jumps.
        duration: When the film ends, seconds: with its last picture, or later where that stands on
            for the sound or by its own length.
        header: Seconds that the header claims, None where it claims nothing.
        missing: The header claims more, and the file is too short for it: bytes are missing.
    """

    shifts: tuple[tuple[int, float], ...]
    duration: float
    header: float | None
    missing: bool

    @property
    def start(self) -> float:
        """What the clock shows at time 0."""
        return self.shifts[0][1]

    @property
    def steady(self) -> bool:
        """Whether the clock never jumps, so that its times can be sought."""
        return len(self.shifts) == 1

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as caches keep them."""
        return {**asdict(self), "shifts": [list(shift) for shift in self.shifts]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Timeline:
        """Return what `to_json` was made of.

        Raises:
            TypeError: Something is missing or of another kind.
            ValueError: The same.
        """
        shifts = tuple((int(packet), float(seconds)) for packet, seconds in value["shifts"])
        return cls(**{**value, "shifts": shifts})


def usual_step(stream: Any) -> float:
    """Return the duration of a picture by the container's frame rate, seconds."""
    rate = float(stream.average_rate or 0)
    return 1.0 / rate if rate >= 1.0 / LONGEST_STILL else 0.04


def presentable(packet: Any, base: float) -> bool:
    """Return whether a packet has a plausible presentation time, near its decoding time.

    Args:
        packet: Of a film.
        base: Seconds of a tick.
    """
    if packet.pts is None or packet.dts is None:
        return packet.pts is not None
    return bool(abs(packet.pts - packet.dts) * base <= _TOGETHER)


class _Strand:
    """Splits the packets of one stream, in the order of the file, where its clock jumps."""

    def __init__(self, stream: Any, longest: float, *, decoding_times: bool = False) -> None:
        self.step = usual_step(stream) if stream.type == "video" else 0.0
        self.longest = longest
        self.decoding_times = decoding_times
        self.base = float(stream.time_base)
        self.number = 0
        self._last = -self.step
        self.before: tuple[float, bool] | None = None
        """The last time of the clock, and whether that was a decoding time."""
        self.pieces: list[list[float]] = []
        """[number of the first packet, first time, end] of each."""

    def add(self, packet: Any) -> None:
        """Take the next packet of the stream."""
        number, self.number = self.number, self.number + 1
        if packet.is_discard:  # an edit list hides it
            return
        ticks, jumped = packet.pts if packet.dts is None else packet.dts, False
        if ticks is not None:
            clock, decoding = ticks * self.base, packet.dts is not None
            if self.before is not None:
                # Times of decoding only grow; where one lacks, pictures may wait for others.
                back = _BACK if decoding and self.before[1] else _TOGETHER
                moved = clock - self.before[0]
                jumped = not -back <= moved <= self.longest
                if moved > 0 and not jumped and not packet.duration:
                    self.step = moved  # as long as the one before, where none says how long
            self.before = clock, decoding
        trusted = not self.decoding_times and presentable(packet, self.base)
        ticks = packet.pts if trusted else packet.dts
        time = self._last + self.step if ticks is None else ticks * self.base
        length = packet.duration * self.base if packet.duration else 0.0
        if 0.0 < length <= self.longest:
            self.step = length
        else:
            length = 0.0  # as long as until the next, which `close` adds to the last
        if jumped or not self.pieces:
            self.close()
            self.pieces.append([number, time, time + length])
        else:
            piece = self.pieces[-1]
            piece[1], piece[2] = min(piece[1], time), max(piece[2], time + length)
        self._last = time

    def close(self) -> None:
        """End the last piece with its last packet, which may have no duration."""
        if self.pieces:
            self.pieces[-1][2] = max(self.pieces[-1][2], self._last + self.step)

    @property
    def first(self) -> float:
        """What the clock shows at the first packet."""
        return self.pieces[0][1] if self.pieces else 0.0

    @property
    def length(self) -> float:
        """Seconds of all pieces, one after the other."""
        return math.fsum(end - first for _, first, end in self.pieces)

    def shifts(self, start: float) -> tuple[tuple[int, float], ...]:
        """Return `Timeline.shifts` where the clock shows `start` at time 0."""
        shifts = [(0, start)]
        for (_, _, before), (number, first, _) in zip(self.pieces, self.pieces[1:], strict=False):
            # The piece goes on where the one before it ended.
            shifts.append((int(number), first - (before - shifts[-1][1])))
        return tuple(shifts)


def timeline(path: str | Path) -> Timeline:
    """Return a file's timeline, cached while the file is unchanged.

    Raises:
        VideoError: The file cannot be opened as a video.
    """
    key = _key(path)
    if (known := _known.get(key)) is None:
        known = _scan(place_of(path))
        _keep(key, known)
    return known


def remember(path: str | Path, known: Timeline) -> None:
    """Put a file's timeline, kept with the hash of its content, into the cache."""
    _keep(_key(path), known)


_Key = tuple[int | str, ...]
_known: dict[_Key, Timeline] = {}  # threads may scan a file twice, which costs time alone
_MOST_KNOWN = 10_000


def _key(path: str | Path) -> _Key:
    path = place_of(path)
    try:
        return absolute(path), *state_of(path)
    except (OSError, ValueError):
        return (str(path),)  # opening it says what is wrong


def _keep(key: _Key, known: Timeline) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[key] = known


def _scan(path: Path) -> Timeline:
    with open_container(path) as container:
        film = film_of(container, path)
        name = container.format.name
        if (indexed := _from_index(path, container, film)) is not None:
            return indexed
        discontinuous = bool(int(container.format.flags) & _DISCONTINUOUS)
        jumpy = discontinuous or name in ("flv", "live_flv")
        longest = _BREAK if jumpy else LONGEST_STILL
        pictures = _Strand(film, longest, decoding_times=name == "avi")
        sounds = {s.index: _Strand(s, _BREAK) for s in container.streams.audio}
        claimed = container.duration
        unclaimed = discontinuous or name in _ELEMENTARY
        header = claimed / av.time_base if claimed and claimed > 0 and not unclaimed else None
        if header is not None and name == "avi":
            # FFmpeg shortens what the header claims to what a cut file can hold.
            header = max(header, film.frames * pictures.step)
        first = container.start_time
        _walk(path, {film.index: pictures, **(sounds if header is None else {})})
        begin = pictures.first if first is None else min(first / av.time_base, pictures.first)
        lead = pictures.first - begin
        if header is not None and (lead > _TOGETHER or not _agree(header, pictures.length)):
            _walk(path, sounds)
        heard = [sound for sound in sounds.values() if sound.pieces]
        if lead > _TOGETHER and not any(sound.length >= lead - _TOGETHER for sound in heard):
            begin = pictures.first  # nothing is heard there either
        # Whole files keep the small delay between their sound and their pictures.
        start = begin if jumpy or abs(begin) >= _DELAY else 0.0
        return _ended(path, name, pictures, heard, start, header, _tag(film))


def _walk(path: Path, strands: dict[int, _Strand]) -> None:
    """Give each strand the packets of the stream of its number."""
    with open_container(path) as container:
        try:
            for packet in packets(container, [container.streams[index] for index in strands]):
                if (strand := strands.get(packet.stream_index)) is not None:
                    strand.add(packet)
        except (FFmpegError, OSError, ValueError) as error:
            # What can be read counts; decoding reports the damage.
            _log.debug("%s: packets end early (%s)", path, reason(error))
    for strand in strands.values():
        strand.close()


def _from_index(path: Path, container: Any, film: Any) -> Timeline | None:
    """Return the timeline of a file whose index lists every frame and agrees with the header."""
    index, name = getattr(film, "index_entries", None), container.format.name
    header = (container.duration or 0) / av.time_base
    if not index or len(index) != film.frames or not film.average_rate or not header > 0:
        return None
    begins, last = (index[place].timestamp * film.time_base for place in (0, len(index) - 1))
    plain = (
        ("mp4" in name or name == "avi")
        and max(abs(begins), abs(container.start_time or 0) / av.time_base) < _DELAY
        and header < LONGEST_STILL  # no room for a clock that jumps
        and _agree(header, float(last + 1 / film.average_rate))
        and ends_early(path, name) is False
    )
    if not plain:
        return None
    return Timeline(shifts=((0, 0.0),), duration=header, header=header, missing=False)


def _agree(header: float, measured: float) -> bool:
    """Return whether a header's duration agrees: sound and pictures need not end together."""
    return -0.5 <= header - measured <= 1.0


def _tag(stream: Any) -> float | None:
    """Return when a track of Matroska ends by its own tag, None without one."""
    clock = stream.metadata.get("DURATION", "").split(":")
    try:
        return float(clock[0]) * 3600 + float(clock[1]) * 60 + float(clock[2])
    except (ValueError, IndexError):
        return None


def _ended(
    path: Path,
    format_name: str,
    film: _Strand,
    sounds: list[_Strand],
    start: float,
    header: float | None,
    tag: float | None,
) -> Timeline:
    """Return the timeline, and log in one line where the file contradicts its header."""
    shifts = film.shifts(start)
    pictures = max(film.pieces[-1][2] - shifts[-1][1], 0.0) if film.pieces else 0.0
    measured = pictures
    if len(shifts) == 1:
        for sound in sounds:
            begins = sound.first - start
            if begins <= pictures + _TOGETHER:
                measured = max(measured, begins + sound.length)
    if header is not None and header > start:
        # Some containers claim when the film ends by its clock, some how long it is.
        header = min(header, header - start, key=lambda claim: abs(claim - measured))
    duration, missing = measured, False
    if len(shifts) > 1:
        when = film.pieces[0][2] - start
        by = film.pieces[1][1] - film.pieces[0][2]
        if "matroska" in format_name and (count := recordings(path)) > 2:
            _log.warning(
                "%s: %d files one after the other, of which FFmpeg reads two, to %.2f s; cut it "
                "up, or join them with a program for Matroska", path, count, pictures,
            )  # fmt: skip
        often = "once" if len(shifts) == 2 else f"{len(shifts) - 1} times"
        _log.warning(
            "%s: its clock jumps %s (at %.2f s by %+.2f s); times count what is shown, without "
            "the jumps", path, often, when, by,
        )  # fmt: skip
    elif header is None or not film.pieces:
        missing = ends_early(path, format_name) is True
    else:
        excess = header - measured
        early = ends_early(path, format_name) if excess > 1.0 else False
        # Where a container says nothing of its size, headers are right to about one in twenty.
        missing = excess > 1.0 and (early is True or (early is None and excess > 0.05 * header))
        still = early is False and tag is not None and abs(tag - start - header) < 1.0
        if missing or _agree(header, measured) or (still and excess <= LONGEST_STILL):
            duration = header
        else:
            _log.warning(
                "%s: its header claims %.2f s, its pictures and sound last %.2f s; the latter "
                "counts", path, header, measured,
            )  # fmt: skip
    if abs(start) >= _DELAY:
        _log.info("%s: its clock begins at %.2f s; times count from there", path, start)
    return Timeline(shifts=shifts, duration=duration, header=header, missing=missing)
