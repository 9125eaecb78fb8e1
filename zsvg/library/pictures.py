"""Pictures of moments: those of the events in the tables, so that nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zsvg.library.tables import Tables


def pictures(tables: Tables, places: Iterable[tuple[str, float]]) -> list[bytes | None]:
    """Return a JPEG picture for each place, by one look into the tables.

    Args:
        tables: Of the library.
        places: (content, seconds).

    Returns:
        In the order of the places; None where there are no pictures of a content.
    """
    wanted = list(places)
    events = tables.events_of(list(dict.fromkeys(content for content, _ in wanted)))
    return [nearest(events.get(content, ()), at) for content, at in wanted]


def nearest(events: Sequence[Mapping[str, Any]], at: float) -> bytes | None:
    """Return the picture of the event whose middle is nearest to a time, in seconds."""
    shown = [event for event in events if event["picture"]]
    if not shown:
        return None
    picture: bytes = min(shown, key=lambda e: abs((e["start"] + e["end"]) / 2 - at))["picture"]
    return picture
