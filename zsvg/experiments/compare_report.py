"""What a grid of runs found: one table, as text and Markdown, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.evaluation.baselines import trivial_answers
from zsvg.evaluation.metrics import evaluate
from zsvg.experiments.compare import Run
from zsvg.files import write_text
from zsvg.records import Annotation
from zsvg.report.svg import drawing, scale, style_sheet, text, ticks

COLUMNS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.5", "mIoU")
HEADER = ("method", "level", "labelled videos", "runs", *COLUMNS)
_WIDTH, _LEFT, _RIGHT, _STEP = 880, 470, 850, 24


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        method: What answered.
        level: What it had seen, in the field's words.
        videos: Labelled videos that it was trained on.
        metrics: Of each run, as `zsvg.evaluation.metrics.evaluate` gives them.
        yardstick: Whether it is there to be beaten.
    """

    method: str
    level: str = "-"
    videos: str = "-"
    metrics: Sequence[Mapping[str, Any]]
    yardstick: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the line in percent, with the standard deviation where there are several runs."""
        runs = "-" if self.yardstick and len(self.metrics) == 1 else str(len(self.metrics))
        cells = (mean_and_spread(self.metrics, column) for column in COLUMNS)
        return self.method, self.level, self.videos, runs, *cells


def percents(
    metrics: Sequence[Mapping[str, Any]], column: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return one number of each run in percent; empty where there is none."""
    found = [run[column] for run in metrics]
    return 100 * np.array([value for value in found if value is not None], dtype=np.float64)


def mean_and_spread(metrics: Sequence[Mapping[str, Any]], column: str) -> str:
    """Return a mean over runs in percent, with the standard deviation where there are several."""
    values = percents(metrics, column)
    if not len(values):
        return "-"
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def rows_of(
    results: Sequence[tuple[Run, Mapping[str, Any]]],
    annotations: Sequence[Annotation],
    *,
    permuted: bool = False,
) -> list[Row]:
    """Return trivial rows, controls and methods, in that order.

    Args:
        results: As `zsvg.experiments.compare.compare` gives them.
        annotations: What was tested on.
        permuted: Add, for each row that is trained, the same answers given to other videos.
    """
    rows = [
        Row(method=name, metrics=[evaluate(answers, annotations)], yardstick=True)
        for name, answers in trivial_answers(annotations).items()
    ]
    groups: dict[tuple[str, str, int | None], list[tuple[Run, Mapping[str, Any]]]] = {}
    for run, result in results:
        groups.setdefault(run.group, []).append((run, result))
    if permuted:
        rows += [_row(group, "permuted") for group in groups.values() if not group[0][0].blind]
    for blind in (True, False):
        rows += [_row(group, "metrics") for group in groups.values() if group[0][0].blind == blind]
    return rows


def _row(group: Sequence[tuple[Run, Mapping[str, Any]]], key: str) -> Row:
    run, first = group[0]
    counts = sorted({result["labelled_videos"] for _, result in group})
    return Row(
        method=("permuted " if key == "permuted" else "") + run.method,
        level=first["level"],
        videos="-" if run.recipe is None else " to ".join(map(str, {counts[0]: 0, counts[-1]: 0})),
        metrics=[result[key] for _, result in group],
        yardstick=key == "permuted" or run.blind,
    )


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return a Markdown table with lines above it."""
    lines = [*notes, ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r.cells()) + " |" for r in rows
    ]
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row]) -> str:
    """Return an SVG file of the mean IoU: a dot per run, a stroke at their mean."""
    highest = max(float(percents(row.metrics, "mIoU").max(initial=1.0)) for row in rows)
    place = scale(0.0, highest, _LEFT, _RIGHT)
    bottom = 34 + _STEP * len(rows)
    parts = [text(_LEFT, 14, "mIoU, %", "strong")]
    for value in ticks(highest, most=6):
        x = place(value)
        parts.append(f'<path d="M{x:.1f} 24V{bottom}" class="rule"/>')
        parts.append(text(x, bottom + 15, f"{value:g}", "small", "middle"))
    for number, row in enumerate(rows):
        y = 40 + _STEP * number
        style = "line-bar" if row.yardstick else "guess"
        told = (row.level, f"{row.videos} videos")
        about = ", ".join(part for part in told if not part.startswith("-"))
        parts.append(text(0, y + 4, row.method, "quiet" if row.yardstick else "strong"))
        parts.append(text(_LEFT - 12, y + 4, about, "small", "end"))
        values = percents(row.metrics, "mIoU")
        for value in values:
            parts.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" class="{style}"/>')
        if len(values) > 1:
            x = place(float(values.mean()))
            parts.append(f'<path d="M{x:.1f} {y - 9}V{y + 9}" class="line"/>')
    inline = f"<style>{style_sheet()}svg {{ font-family: system-ui, sans-serif; }}</style>"
    picture = drawing(_WIDTH, bottom + 24, "Mean IoU of each method", [inline, *parts])
    return picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def write_comparison(out: Path, rows: Sequence[Row], notes: Sequence[str]) -> list[Path]:
    """Write `out`/table.md and `out`/plot.svg; return their paths."""
    files = [out / "table.md", out / "plot.svg"]
    write_text(files[0], markdown(rows, notes))
    write_text(files[1], figure(rows))
    return files
