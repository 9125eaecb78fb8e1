"""What several videos answer to sentences: as tables, records, a page, and clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg.cli.options import finish
from zsvg.cli.results import Destination, Table
from zsvg.cli.terminal import progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.files import file_stem

if TYPE_CHECKING:
    from zsvg.grounding.answers import Grounding
    from zsvg.records import Prediction
    from zsvg.report.results_page import Curve, Shown


_WORDS = 60  # letters of what is said that a table shows


@dataclass
class Asked:
    """A query, its number on the command line, and its predictions by video.

    Attributes:
        number: From 1.
        query: The sentence, or the name of what moments are to look like.
        answers: One of each video.
        curves: vid -> its relevance all along.
        somewhere: Not every answer says that there is no such moment.
        ranked: Answers are in order; else they are sorted by fit.
    """

    number: int
    query: str
    answers: list[Prediction] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    somewhere: bool = False
    ranked: bool = False

    def add(self, found: Prediction, answer: Grounding, duration: float, page: bool) -> None:
        """Add what a video answers.

        Args:
            found: The answer as a record; its `extra` has "fit" and "path".
            answer: The same in full.
            duration: Of the video, seconds.
            page: Whether a page is to show it.
        """
        from zsvg.records import to_jsonl
        from zsvg.report.results_page import Curve

        to_jsonl((found,))  # what cannot be written should not take the others
        self.answers.append(found)
        if page:
            self.curves[found.vid] = Curve.of(answer, duration)
        self.somewhere |= not answer.absent


def asked_of(queries: Sequence[str]) -> tuple[list[Asked], list[str]]:
    """Return sentences to ask, and why others are none.

    Raises:
        ZsvgError: Not one is.
    """
    wrong = {number: _wrong(query) for number, query in enumerate(queries, 1)}
    asked = [Asked(n, query) for n, query in enumerate(queries, 1) if not wrong[n]]
    if not asked:
        raise ZsvgError(f"the sentence {wrong[1]}")
    return asked, [f"sentence {number} {why}" for number, why in wrong.items() if why]


def check_cut(cut: Path | None) -> None:
    """Refuse a file where clips are to lie.

    Raises:
        ZsvgError: It is one.
    """
    if cut is not None and cut.exists() and not cut.is_dir():
        raise ZsvgError(f"--cut {cut}: is a file; name a folder for the clips")


def give_answers(
    to: Destination,
    asked: Sequence[Asked],
    *,
    model: str,
    top_k: int,
    everything: bool,
    cut: Path | None,
    failures: list[str],
) -> None:
    """Show and write answers, cut clips, and end with what failed."""
    from zsvg.grounding.ranking import best_moments, by_fit, distinct
    from zsvg.report.results_page import write_results

    predictions: list[Prediction] = []
    read: list[Prediction] = []  # for tables and subtitles: without near duplicates
    shots: list[Prediction] = []  # for timelines: the moments of the tables
    tables, clips, seen = [], [], []
    for one in asked:
        predictions += (ranked := one.answers if one.ranked else by_fit(one.answers))
        shown = ranked if everything else [distinct(answer) for answer in ranked]
        read += shown
        best = best_moments(shown, top_k)
        shots += [replace(answer, pred_relevant_windows=(moment,)) for answer, moment in best]
        seen.append((one.query, best, one.curves))
        tables.append(_table(one.query, best))
        clips += [
            (f"{one.number:02d}-{rank}-{file_stem(a.vid)}.mp4", Path(a.extra["path"]), start, end)
            for rank, (a, (start, end, _)) in enumerate(best, 1)
        ]

    def write_page(file: Path) -> None:
        with progress("pictures", sum(len(best) for _, best, _ in seen)) as advance:
            failures.extend(write_results(file, seen, model=model, on_progress=advance))

    places = to.give(
        predictions,
        tables,
        read=read,
        shots=shots,
        write_page=write_page,
        failed=bool(failures) and not predictions,
        failures=failures,
    )
    somewhere = {one.query for one in asked if one.somewhere}
    found = {one.query for one in asked if any(a.pred_relevant_windows for a in one.answers)}
    for query in dict.fromkeys(one.query for one in asked):
        if predictions and query not in found:
            say(f"{query!r}: no moment is so likely to be there (--sure)")
        elif predictions and query not in somewhere:
            say(f"{query!r}: perhaps no such moment, every score is low for this model")
    if to.file is not None and places:
        say(f"wrote {len(predictions)} answers to {places}")
    if cut is not None:  # last: answers do not wait for clips, nor fail with them
        failures += _cut(cut, clips)
    finish(failures)


def _table(query: str, best: Sequence[Shown]) -> Table:
    """Return the table of a query's moments, each with a link to its video."""
    from zsvg.grounding.ranking import parts_told, words_of
    from zsvg.grounding.writers import hms
    from zsvg.report.links import file_url, near
    from zsvg.report.svg import shorten

    files = [answer.extra["path"] for answer, _ in best]
    rows: list[tuple[str, ...]] = [
        (near(file), f"{a.extra['fit']:.3f}", hms(start), hms(end), f"{score:.3f}")
        for file, (a, (start, end, score)) in zip(files, best, strict=True)
    ]
    header, links = ["video", "fit", "start", "end", "score"], [*map(file_url, files)]
    said = [words_of(answer, window) for answer, window in best]
    if any(said):
        header.append("said")
        rows = [(*row, shorten(words, _WORDS)) for row, words in zip(rows, said, strict=True)]
    likely = [answer.extra.get("presence") for answer, _ in best]
    if any(one is not None for one in likely):
        header.append("presence")
        rows = [(*row, f"{one:.2f}") for row, one in zip(rows, likely, strict=True)]
    lit = [parts_told(answer) for answer, _ in best]
    if any(lit):
        header.append("parts")
        rows = [(*row, told) for row, told in zip(rows, lit, strict=True)]
    return Table(header=tuple(header), rows=rows, title=query, links=links)


def _wrong(sentence: str) -> str:
    """Return why a sentence is no query, as the end of a message; "" if it is one."""
    if not sentence.strip():
        return "is blank; describe the moment in a few words"
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8; write it in this encoding"
    return ""


def _cut(folder: Path, clips: Sequence[tuple[str, Path, float, float]]) -> list[str]:
    """Save moments (name, video, start, end) as clips; return the failures."""
    from av.error import FFmpegError

    from zsvg.video.writing import cut

    failures = []
    for name, video, start, end in clips:
        try:
            cut(video, start, end, folder / name)
        except (*ITEM_ERRORS, FFmpegError) as error:
            failures.append(failure(folder / name, error))
        else:
            say(f"cut {folder / name}")
    return failures
