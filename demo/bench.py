"""The labels of one visitor: pseudo labels, and the verdict on each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zsvg import ZsvgError
from zsvg.records import Annotation

from .corrections import alike, checked, merged, split

Verdict = Literal["open", "accepted", "fixed", "rejected"]
VERDICTS: tuple[Verdict, ...] = ("open", "accepted", "fixed", "rejected")
NEW_SECONDS = 5.0  # of a label that is added
MOST_STEPS = 200  # that can be undone


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A label and the visitor's verdict.

    Attributes:
        label: Its present form; without a sentence it is a draft, which goes nowhere yet.
        written: The pseudo label; None: the visitor added it.
        verdict: The visitor's verdict.
        file: Of its video, where the page does not show that one; None: the bench has it.
    """

    label: Annotation
    written: Annotation | None
    verdict: Verdict = "open"
    file: Path | None = None

    @property
    def window(self) -> tuple[float, float]:
        """Its start and end, seconds."""
        return self.label.relevant_windows[0]


class Bench:
    """Labels of some videos, to be accepted, fixed or rejected.

    Args:
        videos: vid -> file.
        entries: Labels of those; see `entries_of`.
        vid: The video to show first; "": the first that has labels.

    Attributes:
        videos: vid -> file.
        entries: All labels, by video and then by time.
        vid: The video that is shown.
        picked: Index of the entry that is being looked at, None where the video has none.
    """

    def __init__(self, videos: dict[str, Path], entries: Iterable[Entry], vid: str = "") -> None:
        self.videos = videos
        self.entries = list(entries)
        self.picked: int | None = None
        self.vid = ""
        self._past: list[tuple[list[Entry], str, int | None]] = []
        self._future: list[tuple[list[Entry], str, int | None]] = []
        labelled = sorted({entry.label.vid for entry in self.entries} & set(videos))
        self.show(vid if vid in videos else (labelled or sorted(videos))[0])

    def show(self, vid: str) -> None:
        """Turn to a video, and to its first label that has no verdict yet.

        Raises:
            ZsvgError: There is no such video.
        """
        if vid not in self.videos:
            raise ZsvgError(f"there is no video {vid!r} here")
        self.vid = vid
        own = self.of(vid)
        undecided = [i for i in own if self.entries[i].verdict == "open"]
        self.picked = next(iter(undecided or own), None)

    def of(self, vid: str) -> list[int]:
        """Return the indices of a video's labels."""
        return [i for i, entry in enumerate(self.entries) if entry.label.vid == vid]

    def pick(self, number: int) -> Entry:
        """Look at a label of the shown video: 1, 2, ...

        Raises:
            ZsvgError: It has no such label.
        """
        own = self.of(self.vid)
        if not 1 <= number <= len(own):
            raise ZsvgError(f"{self.vid} has labels 1 to {len(own)}, not {number}")
        self.picked = own[number - 1]
        return self.entries[self.picked]

    def next(self) -> None:
        """Turn to the next label without a verdict, in another video where this one has none.

        Raises:
            ZsvgError: There is none anywhere.
        """
        if not self._turn():
            raise ZsvgError("every label has a verdict; nothing is left to decide")

    @property
    def entry(self) -> Entry | None:
        """The picked label."""
        return None if self.picked is None else self.entries[self.picked]

    @property
    def number(self) -> int | None:
        """Number of the picked label among those of its video."""
        return None if self.picked is None else self.of(self.vid).index(self.picked) + 1

    def accept(self, query: str, start: float, end: float) -> None:
        """Take the picked label, as it is or with other words and ends; it then counts as true.

        Raises:
            ZsvgError: Training could not use it, or no label is picked.
        """
        entry = self._current()
        label = checked(entry.label, query, start, end)
        self._decide(replace(entry, label=label, verdict=verdict_on(label, entry.written)))

    def reject(self) -> None:
        """Leave the picked label out of everything that follows.

        Raises:
            ZsvgError: No label is picked.
        """
        self._decide(replace(self._current(), verdict="rejected"))

    def add(self, at: float, duration: float) -> None:
        """Begin a label of the visitor's own in the shown video: a draft, until it has a sentence.

        Args:
            at: Where it begins, seconds.
            duration: Of the video, seconds.
        """
        start = round(min(max(at, 0.0), max(duration - 0.5, 0.0)), 3)
        end = round(min(start + NEW_SECONDS, duration), 3)
        label = Annotation(
            qid=self._new_qid(),
            query="",
            vid=self.vid,
            duration=duration,
            relevant_windows=((start, end),),
        )
        self._note()
        place = 1 + max((i for i in self.of(self.vid) if self.entries[i].window[0] <= start),
                        default=next(iter(self.of(self.vid)), len(self.entries)) - 1)  # fmt: skip
        self.entries.insert(place, Entry(label=label, written=None))
        self.picked = place

    def split(self, at: float) -> None:
        """Make two labels of the picked one, both open.

        Args:
            at: Where, seconds; outside of it, in its middle.

        Raises:
            ZsvgError: No label is picked, or it is too short.
        """
        entry = self._current()
        first, second = split(entry.label, at, self._new_qid())
        self._note()
        assert self.picked is not None
        self.entries[self.picked : self.picked + 1] = [
            replace(entry, label=first, verdict="open"),
            Entry(label=second, written=None),
        ]

    def merge(self) -> None:
        """Let the picked label last until the end of the next one, which is rejected.

        Raises:
            ZsvgError: No label is picked, or none follows.
        """
        entry = self._current()
        assert self.picked is not None
        behind = [
            i
            for i in self.of(self.vid)
            if i > self.picked and self.entries[i].verdict != "rejected"
        ]
        if not behind:
            raise ZsvgError("no label of this video follows that this one could be merged with")
        self._note()
        other = self.entries[behind[0]]
        label = merged(entry.label, other.label)
        self.entries[self.picked] = replace(entry, label=label, verdict="open")
        self.entries[behind[0]] = replace(other, verdict="rejected")

    def change(self, entries: Sequence[Entry]) -> None:
        """Put other entries in the place of these, as one step that can be undone."""
        self._note()
        self.entries = list(entries)
        self.show(self.vid)

    def undo(self) -> None:
        """Take back the last change.

        Raises:
            ZsvgError: There is none.
        """
        if not self._past:
            raise ZsvgError("there is nothing to undo")
        self._future.append(self._state())
        self.entries, self.vid, self.picked = self._past.pop()

    def redo(self) -> None:
        """Make the last change again that was taken back.

        Raises:
            ZsvgError: There is none.
        """
        if not self._future:
            raise ZsvgError("there is nothing to redo")
        self._past.append(self._state())
        self.entries, self.vid, self.picked = self._future.pop()

    def labels(self, *, true_only: bool = False) -> list[Annotation]:
        """Return the labels that are not rejected, or only those that somebody has looked at."""
        return labels_of(self.entries, true_only=true_only)

    def to_json(self) -> list[dict[str, object]]:
        """Return the labels of the shown video as the endpoints do."""
        return [
            {
                "number": number,
                "query": self.entries[index].label.query,
                "start": self.entries[index].window[0],
                "end": self.entries[index].window[1],
                "verdict": self.entries[index].verdict,
                "picked": index == self.picked,
            }
            for number, index in enumerate(self.of(self.vid), 1)
        ]

    def counts(self) -> dict[Verdict, int]:
        """Return how many labels have which verdict."""
        return {v: sum(entry.verdict == v for entry in self.entries) for v in VERDICTS}

    def _current(self) -> Entry:
        if self.picked is None:
            raise ZsvgError("pick a label first")
        return self.entries[self.picked]

    def _decide(self, entry: Entry) -> None:
        """Keep a verdict, and turn to the next label that has none."""
        assert self.picked is not None
        self._note()
        self.entries[self.picked] = entry
        self._turn()

    def _turn(self) -> bool:
        """Turn to the next open label of the video, or of the next video; return whether there is.

        Labels behind the picked one come first, then those before it.
        """
        here = -1 if self.picked is None else self.picked
        own = self.of(self.vid)
        behind = [i for i in own if i > here] + [i for i in own if i < here]
        for index in behind:
            if self.entries[index].verdict == "open":
                self.picked = index
                return True
        vids = sorted(self.videos)
        place = vids.index(self.vid)
        for vid in vids[place + 1 :] + vids[:place]:
            if any(self.entries[i].verdict == "open" for i in self.of(vid)):
                self.show(vid)
                return True
        return False

    def _state(self) -> tuple[list[Entry], str, int | None]:
        return list(self.entries), self.vid, self.picked

    def _note(self) -> None:
        """Remember what is there before a change."""
        self._past = [*self._past[-MOST_STEPS + 1 :], self._state()]
        self._future = []

    def _new_qid(self) -> str:
        known = {str(entry.label.qid) for entry in self.entries}
        number = 1
        while (qid := f"{self.vid}-added-{number}") in known:
            number += 1
        return qid


def labels_of(entries: Iterable[Entry], *, true_only: bool = False) -> list[Annotation]:
    """Return the labels that are not rejected, or only those that somebody has looked at."""
    wanted = ("accepted", "fixed") if true_only else ("open", "accepted", "fixed")
    return [e.label for e in entries if e.verdict in wanted and e.label.query]


def verdict_on(label: Annotation, written: Annotation | None) -> Verdict:
    """Return what it means that a visitor takes a label: as it was written, or with corrections."""
    return "accepted" if written is not None and alike(label, written) else "fixed"


def entries_of(
    labels: Iterable[Annotation], vids: Collection[str], before: Bench | None = None
) -> list[Entry]:
    """Return pseudo labels as entries; where an earlier bench had the same, their verdicts stay.

    What the visitor added, or decided about labels that are no more written, stays too.

    Args:
        labels: Pseudo labels.
        vids: The videos that they were written of; labels of others stay as they are.
        before: The earlier bench.
    """
    old = {entry.label.qid: entry for entry in (before.entries if before else ())}
    entries = []
    for label in labels:
        known = old.pop(label.qid, None)
        same = known is not None and known.written == label
        entries.append(known if same and known else Entry(label=label, written=label))
    for entry in old.values():
        decided = entry.written is None or entry.verdict in ("accepted", "fixed")
        if decided or entry.label.vid not in vids:
            entries.append(entry)
    return sorted(entries, key=lambda entry: (entry.label.vid, entry.window[0]))
