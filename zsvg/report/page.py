"""The parts of a page: one HTML file with its style sheet inside, which loads nothing else.

Arguments called `content`, `head` or `more` are HTML; everything else is text and gets escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from zsvg.report.svg import shorten

SECONDS = "Times are seconds from the start of the video."


def document(title: str, parts: Sequence[str], times: str = SECONDS, script: str = "") -> str:
    """Return a whole page; empty parts are left out.

    Args:
        title: Of the window.
        parts: HTML, from top to bottom.
        times: How the foot explains them.
        script: JavaScript that the page can do without; most pages have none.
    """
    style = resources.files("zsvg.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>Written by zsvg. {escape(times)}</footer>\n</main>\n"
        + (f"<script>\n{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def top(title: str, summary: str = "", facts: Mapping[str, str] | None = None) -> str:
    """Return the head line, a sentence under it, and facts as names with values."""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in (facts or {}).items())
    lines = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(summary)}</p>' if summary else "",
        f"<dl>{items}</dl>" if items else "",
    ]
    return "\n".join(line for line in lines if line)


def section(heading: str, explanation: str, content: str) -> str:
    """Return a section, or nothing when it has no content."""
    if not content:
        return ""
    head = f"<h2>{escape(heading)}</h2>\n<p>{escape(explanation)}</p>"
    return f"<section>\n{head}\n{content}\n</section>"


def card(title: str, content: str, note: str = "", more: str = "") -> str:
    """Return a framed picture that scrolls where the window is too narrow, `more` below it."""
    beside = f" <span>{escape(note)}</span>" if note else ""
    heading = f"<h3>{escape(title)}{beside}</h3>" if title else ""
    scroller = f'<div class="scroll" tabindex="0">{content}</div>'
    return f'<div class="figure">{heading}{scroller}{more}</div>\n'


def legend(*entries: tuple[str, str]) -> str:
    """Return what colours mean: pairs of a style and its meaning."""
    items = "".join(f'<li><i class="{style}"></i>{escape(text)}</li>' for style, text in entries)
    return f'<ul class="legend">{items}</ul>\n'


def row(head: str, cells: Sequence[str], *, ours: bool = False) -> str:
    """Return a row of a table, highlighted if it is ours."""
    style = ' class="ours"' if ours else ""
    values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr{style}><th scope="row">{head}</th>{values}</tr>'


def count(number: int, what: str) -> str:
    """Return "1 label", "2 labels" or "1,000 labels"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def words(sentence: str) -> str:
    """Return a sentence as the head of a row, cut to a length that a table can hold."""
    return escape(shorten(sentence, 300) or "(empty)")


def table(
    caption: str,
    names: Sequence[str],
    body: Sequence[str],
    foot: Sequence[str] = (),
    strong: Sequence[bool] = (),
    style: str = "",
) -> str:
    """Return a table of rows made by `row`.

    Args:
        caption: Printed above; may be empty.
        names: Of the columns.
        body: Rows.
        foot: Rows below a line.
        strong: Which names stand out; none by default.
        style: "words" lets the first column take several lines.
    """
    marks = strong or [False] * len(names)
    head = "".join(
        f'<th scope="col">{f"<b>{escape(name)}</b>" if mark else escape(name)}</th>'
        for name, mark in zip(names, marks, strict=True)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    end = f"<tfoot>{''.join(foot)}</tfoot>" if foot else ""
    kind = f' class="{style}"' if style else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody>{end}</table></div>"
    )
