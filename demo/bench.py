"""The labels of one visitor: pseudo labels, and the verdict on each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zsvg import ZsvgError
from zsvg.records import Annotation, check_trainable

Verdict = Literal["open", "accepted", "fixed", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A label and the visitor's verdict.

    Attributes:
        label: Its present form.
        written: The pseudo label.
        verdict: The visitor's verdict.
    """

    label: Annotation
    written: Annotation
    verdict: Verdict = "open"

    @property
    def window(self) -> tuple[float, float]:
        """Its start and end, seconds."""
        return self.label.relevant_windows[0]


class Bench:
    """Labels of some videos, to be accepted, fixed or rejected.

    Args:
        videos: vid -> file.
        labels: Pseudo labels of those.
        before: An earlier bench: where it had the same labels, their verdicts stay.

    Attributes:
        videos: vid -> file.
        entries: All labels, by video and then by time.
        vid: The video that is shown.
        picked: Index of the entry that is being looked at, None where the video has none.
    """

    def __init__(
        self,
        videos: dict[str, Path],
        labels: Iterable[Annotation],
        before: Bench | None = None,
    ) -> None:
        self.videos = videos
        old = {entry.written.qid: entry for entry in (before.entries if before else ())}
        self.entries: list[Entry] = []
        for label in labels:
            known = old.get(label.qid)
            same = known is not None and known.written == label
            self.entries.append(known if same and known else Entry(label=label, written=label))
        self.picked: int | None = None
        self.vid = ""
        labelled = sorted({entry.label.vid for entry in self.entries} & set(videos))
        self.show((labelled or sorted(videos))[0])

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
            RecordError: Training could not use it.
            ZsvgError: No label is picked.
        """
        entry = self._current()
        query = " ".join(query.split())
        old = entry.label
        window = (round(float(start), 3), round(float(end), 3))
        same = query == old.query and all(
            abs(a - b) < 0.005 for a, b in zip(window, entry.window, strict=True)
        )
        # Labels without `source` are true ones for everything in zsvg.
        extra = {key: value for key, value in old.extra.items() if key != "source"}
        label = replace(
            old,
            query=query,
            relevant_windows=(entry.window if same else window,),
            extra=extra,
        )
        check_trainable([label], tolerance=0.05)
        fixed = not same or entry.verdict == "fixed"
        self._decide(replace(entry, label=label, verdict="fixed" if fixed else "accepted"))

    def reject(self) -> None:
        """Leave the picked label out of everything that follows.

        Raises:
            ZsvgError: No label is picked.
        """
        self._decide(replace(self._current(), verdict="rejected"))

    def labels(self, *, true_only: bool = False) -> list[Annotation]:
        """Return the labels that are not rejected, or only those that somebody has looked at."""
        wanted = ("accepted", "fixed") if true_only else ("open", "accepted", "fixed")
        return [entry.label for entry in self.entries if entry.verdict in wanted]

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
        verdicts: tuple[Verdict, ...] = ("open", "accepted", "fixed", "rejected")
        return {v: sum(entry.verdict == v for entry in self.entries) for v in verdicts}

    def _current(self) -> Entry:
        if self.picked is None:
            raise ZsvgError("pick a label first")
        return self.entries[self.picked]

    def _decide(self, entry: Entry) -> None:
        """Keep a verdict, and turn to the next label of the video that has none."""
        assert self.picked is not None
        self.entries[self.picked] = entry
        own = self.of(self.vid)
        behind = [i for i in own if i > self.picked] + [i for i in own if i < self.picked]
        undecided = (i for i in behind if self.entries[i].verdict == "open")
        self.picked = next(undecided, self.picked)
