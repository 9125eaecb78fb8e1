"""One page about a run: tables and pictures in a single HTML file without scripts or other files.

The page is written for a reader who has never seen the project: each section says in two sentences
what its axes are and what good looks like. Equal data gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from zsvg.evaluation.metrics import as_percent
from zsvg.files import write_text
from zsvg.report import page
from zsvg.report.figures import CurveFigure, LearningFigure, SimilarityFigure, TimelineFigure

_COUNTS = ("queries", "missing", "invalid", "unknown", "kinds")
REAL_GAP = 0.05
"""A smaller distance between floor and ceiling is noise, and a share of it means nothing."""
_ROLES = ("", "floor", "ours", "ceiling")


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One method of the results table.

    Attributes:
        method: Its name.
        metrics: What `zsvg.evaluation.metrics.evaluate` returned: fractions, printed as
            percentages.
        role: "ours" highlights the row; "floor" and "ceiling" are the two ends of the gap that is
            to be closed, such as the training-free and the fully supervised method; else "".
        note: A few words printed beside the name.
    """

    method: str
    metrics: Mapping[str, Any]
    role: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise ValueError(f"role {self.role!r} is unknown; use one of {', '.join(_ROLES[1:])}")


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows; a section without data is left out.

    Attributes:
        title: Heading of the page.
        summary: One or two sentences under it.
        facts: Name and value of what was run: backbone, data, seed, the command, ...
        results: Rows of the results table, in the order to print.
        headline: The metric of the per-kind table and of the sentence about the gap.
        similarities: Self-similarity matrices.
        timelines: Pseudo labels against the truth.
        curves: Relevance curves of queries.
        learning: Learning curves.
    """

    title: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    results: Sequence[ResultRow] = ()
    headline: str = "R1@0.5"
    similarities: Sequence[SimilarityFigure] = ()
    timelines: Sequence[TimelineFigure] = ()
    curves: Sequence[CurveFigure] = ()
    learning: Sequence[LearningFigure] = ()


def write_report(path: str | Path, data: ReportData) -> None:
    """Write the report as one HTML file, atomically."""
    write_text(path, render(data))


def render(data: ReportData) -> str:
    """Return the report as the text of an HTML page."""
    return page.document(
        data.title,
        [
            page.top(data.title, data.summary, data.facts),
            _results(data),
            _kinds(data),
            _similarities(data.similarities),
            _timelines(data.timelines),
            _curves(data.curves),
            _learning(data.learning),
        ],
    )


def gap_closed(rows: Sequence[ResultRow], metric: str) -> dict[str, float]:
    """Share of the distance from floor to ceiling that each of our rows covers.

    Returns:
        method -> (ours - floor) / (ceiling - floor); negative below the floor, above 1 beyond the
        ceiling. Empty without one floor and one ceiling that is higher by `REAL_GAP`.
    """
    ends = [
        [r.metrics.get(metric) for r in rows if r.role == role] for role in ("floor", "ceiling")
    ]
    if [len(end) for end in ends] != [1, 1] or ends[0][0] is None or ends[1][0] is None:
        return {}
    floor, ceiling = float(ends[0][0]), float(ends[1][0])
    ours = [row for row in rows if row.role == "ours" and row.metrics.get(metric) is not None]
    if ceiling - floor < REAL_GAP:
        return {}
    return {row.method: (row.metrics[metric] - floor) / (ceiling - floor) for row in ours}


def _results(data: ReportData) -> str:
    if not data.results:
        return ""
    names = dict.fromkeys(name for row in data.results for name in row.metrics)
    # A column that no method has a number for (R5 of single answers) is left out.
    columns = [
        name
        for name in names
        if name not in _COUNTS and any(row.metrics.get(name) is not None for row in data.results)
    ]
    columns.sort(key=lambda name: name != data.headline)  # first: a narrow window cuts the last
    body = []
    for row in data.results:
        note = f" <small>{escape(row.note)}</small>" if row.note else ""
        cells = [as_percent(row.metrics.get(name)) for name in columns]
        body.append(page.row(escape(row.method) + note, cells, ours=row.role == "ours"))
    shares = {name: gap_closed(data.results, name) for name in columns}
    foot = []
    for row in data.results:
        cells = [_share(shares[name].get(row.method)) for name in columns]
        if row.role == "ours" and any(cell != "-" for cell in cells):
            foot.append(page.row(f"gap closed by {escape(row.method)}", cells))
    queries = max((int(row.metrics.get("queries", 0)) for row in data.results), default=0)
    caption = f"{queries:,} queries; percentages, higher is better." if queries else ""
    return page.section(
        "How often is the right moment found?",
        "Each row is a method, each column a measure in percent: R1@0.5 is the share of queries "
        "whose first answer overlaps the true moment by at least half (intersection over union), "
        "R5 counts the best of five answers, and mIoU is the mean overlap of the first answer. "
        "Higher is better everywhere, and a method is only worth its cost where it clearly beats "
        "the rows that never look at the video.",
        _gap_sentence(data) + page.table(caption, ["method", *columns], body, foot),
    )


def _gap_sentence(data: ReportData) -> str:
    shares = gap_closed(data.results, data.headline)
    ends = {row.role: row.method for row in data.results if row.role in ("floor", "ceiling")}
    return "".join(
        f'<p class="gap"><b>{_share(share)}</b> of the gap in {escape(data.headline)} from '
        f"{escape(ends['floor'])} to {escape(ends['ceiling'])} is closed by {escape(method)}.</p>"
        for method, share in shares.items()
    )


def _kinds(data: ReportData) -> str:
    tables = [row.metrics.get("kinds") or {} for row in data.results]
    kinds = sorted({kind for table in tables for kind in table})
    if not kinds:
        return ""
    body = []
    for kind in kinds:
        entries = [table.get(kind, {}) for table in tables]
        queries = max(int(entry.get("queries", 0)) for entry in entries)
        cells = [as_percent(entry.get(data.headline)) for entry in entries]
        body.append(page.row(escape(kind), [f"{queries:,}", *cells]))
    names = ["kind of query", "queries", *(row.method for row in data.results)]
    marked = [row.role == "ours" for row in data.results]
    return page.section(
        "Which kinds of query are hard?",
        f"Each row is a kind of query, each column a method; the numbers are {data.headline} in "
        "percent. A row where all methods are low is hard for everybody, and a row where only ours "
        "is low shows what it has not learned.",
        page.table("", names, body, [], [False, False, *marked]),
    )


def _similarities(figures: Sequence[SimilarityFigure]) -> str:
    cards = "".join(page.card(figure.vid, figure.svg()) for figure in figures)
    return page.section(
        "Where does something new begin?",
        "Both axes are the time of one video, and each point shows how alike the pictures at these "
        "two times are: bright is alike, dark is different. Good events, the numbered white "
        "squares, sit on the bright blocks along the diagonal and begin and end where they do.",
        f'<div class="pair">{cards}</div>' if cards else "",
    )


def _timelines(figures: Sequence[TimelineFigure]) -> str:
    legend = page.legend(("truth", "what people marked"), ("guess", "what zsvg wrote by itself"))
    cards = "".join(page.card(figure.vid, figure.svg()) for figure in figures)
    return page.section(
        "What does it teach itself?",
        "Time runs from left to right under frames of the video; each bar is a moment, with its "
        "sentence above it. Good pseudo labels say what is to be seen while their bar lasts, and "
        "cover what people marked; they are written without seeing any of it.",
        legend + cards if cards else "",
    )


def _curves(figures: Sequence[CurveFigure]) -> str:
    legend = page.legend(
        ("line", "relevance to the query"), ("truth", "true moment"), ("guess", "answer")
    )
    cards = "".join(page.card(f"“{f.query}”", f.svg(), note=f.vid) for f in figures)
    return page.section(
        "Does it look at the right time?",
        "Time runs from left to right, and the line is how well each moment fits the sentence, "
        "each method on a scale of its own. A good line is high inside the shaded true moment and "
        "low outside, and the answer below it then covers just the shaded part.",
        legend + cards if cards else "",
    )


def _learning(figures: Sequence[LearningFigure]) -> str:
    cards = ""
    for figure in figures:
        pictures = "".join(page.card("", picture) for picture in figure.svg())
        cards += f'<h3>{escape(figure.title)}</h3><div class="pair">{pictures}</div>'
    return page.section(
        "Did it learn?",
        "The horizontal axis counts training steps; the loss is the error on its own pseudo labels "
        "and should fall, the validation mIoU is the overlap on held-out labels and should rise. A "
        "validation curve that turns down while the loss still falls means that it started to "
        "learn its labels by heart.",
        cards,
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
