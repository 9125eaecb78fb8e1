"""One page about a run: tables and pictures in a single HTML file without scripts or other files.

The page is written for a reader who has never seen the project: each section says in two sentences
what its axes are and what good looks like. Equal data gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    rows, headline = data.results, data.headline
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    # A column that no method has a number for (R5 of single answers) is left out.
    columns = [
        name
        for name in names
        if name not in _COUNTS and any(row.metrics.get(name) is not None for row in rows)
    ]
    columns.sort(key=lambda name: name != headline)  # first: a narrow window cuts the last
    return page.render(
        "run.html",
        data.title,
        summary=data.summary,
        facts=data.facts,
        data=data,
        headline=headline,
        columns=columns,
        results=[_result(row, columns) for row in rows],
        queries=max((int(row.metrics.get("queries", 0)) for row in rows), default=0),
        gap=gap_closed(rows, headline),
        ends={row.role: row.method for row in rows},
        foot=_shares(rows, columns),
        kinds=_kinds(rows, headline),
        methods=[row.method for row in rows],
        ours=[row.method for row in rows if row.role == "ours"],
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


def _result(row: ResultRow, columns: Sequence[str]) -> page.Row:
    cells = [as_percent(row.metrics.get(name)) for name in columns]
    return page.Row(row.method, cells, row.note, ours=row.role == "ours")


def _shares(rows: Sequence[ResultRow], columns: Sequence[str]) -> list[page.Row]:
    """Return how much of the gap in each column our methods close."""
    gaps = [gap_closed(rows, name) for name in columns]
    found = []
    for row in rows:
        if row.role == "ours" and any(row.method in gap for gap in gaps):
            cells = [page.percent(gap[row.method]) if row.method in gap else "-" for gap in gaps]
            found.append(page.Row(f"gap closed by {row.method}", cells))
    return found


def _kinds(rows: Sequence[ResultRow], headline: str) -> list[page.Row]:
    """Return how many queries there are of each kind, and how well each method does on them."""
    tables = [row.metrics.get("kinds") or {} for row in rows]
    found = []
    for kind in sorted(set().union(*tables)):
        entries = [table.get(kind, {}) for table in tables]
        queries = max(int(entry.get("queries", 0)) for entry in entries)
        cells = [as_percent(entry.get(headline)) for entry in entries]
        found.append(page.Row(kind, [f"{queries:,}", *cells]))
    return found
