"""HTML pages from the templates of this room: each is one file, which loads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from zsvg.report.svg import shorten, style_sheet

_TEMPLATES = Environment(
    loader=PackageLoader("zsvg.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        head: What the row is about.
        cells: Behind the head.
        note: A few words beside the head.
        ours: Highlight it.
    """

    head: str
    cells: Sequence[str]
    note: str = ""
    ours: bool = False


def render(template: str, title: str, **values: Any) -> str:
    """Return a page as HTML.

    Args:
        template: A file of `templates/`.
        title: Of the window, and above all.
        values: What the template names. Strings are escaped, but for drawings.
    """
    given = {"summary": "", "facts": {}, "times": "seconds", "style": style_sheet(), **values}
    return _TEMPLATES.get_template(template).render(title=title, **given)


def percent(share: float) -> str:
    """Return 0.256 as "26 %"."""
    return f"{100 * share:.0f} %"


def count(number: int, what: str) -> str:
    """Return "1 label", "2 labels" or "1,000 labels"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def words(sentence: str) -> str:
    """Return a sentence as the head of a row, cut to a length that a table can hold."""
    return shorten(sentence, 300) or "(empty)"


_TEMPLATES.filters.update(count=count, percent=percent)
