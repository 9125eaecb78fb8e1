"""What the tables are to hold of one source: its features, its events with pictures, its title."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Container, Generator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from zsvg.errors import ITEM_ERRORS
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.ahead import in_turn
from zsvg.features.cluster import Cluster, same_model, spread
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import content_of
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.library.manifest import Space
from zsvg.library.sources import Source
from zsvg.places.patience import RemoteError
from zsvg.video.containers import open_container
from zsvg.video.sampling import load_frames_at

_log = logging.getLogger(__name__)
_EVENTS = ProposalOptions(count=8)
_SIDE = 320  # pixels of the longer side of a picture


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found in a source.

    Attributes:
        content: SHA-256 of the file.
        title: In its container; "" where there is none.
        frames: Its features; None where the content was known before.
        events: Rows of its events.
    """

    content: str
    title: str
    frames: FrameFeatures | None = None
    events: tuple[dict[str, Any], ...] = ()


Coming = Generator[tuple[str, Future[Looked]], None, None]
Looking = Callable[[Mapping[str, Source], Collection[str]], Coming]
"""Takes sources by their keys and the contents that are known; yields keys with what was found."""


def look(
    source: Source,
    *,
    grounder: Grounder,
    known: Container[str],
    cache: str | Path | None,
    allow_truncated: bool,
) -> Looked:
    """Encode a source, unless its content is known.

    Args:
        source: A video, or features of one.
        grounder: Encodes frames.
        known: Contents.
        cache: Folder of cached features that is used too; None: none.
        allow_truncated: Keep the readable part of a damaged file.
    """
    content = content_of(source.given, grounder.backbone)
    if content in known:
        return Looked(content=content, title=_title(source))
    frames = grounder.encode(source.given, cache=cache, allow_truncated=allow_truncated).frames
    return Looked(
        content=frames.content,
        title=_title(source),
        frames=frames,
        events=tuple(_events(source, frames)),
    )


def looking(grounder: Grounder, space: Space, cluster: Cluster | None, **options: Any) -> Looking:
    """Return what looks at sources, one after the other or by a cluster.

    Args:
        grounder: Encodes frames here.
        space: Tells workers what to load.
        cluster: Whose workers look; None: this process does.
        options: As of `look`.
    """

    def looked(sources: Mapping[str, Source], known: Collection[str]) -> Coming:
        if cluster is not None:
            # They know what was known at the start: of two new copies both may be encoded.
            return spread(sources, partial(_elsewhere, space, frozenset(known), options), cluster)
        return in_turn(
            sources, lambda key: look(sources[key], grounder=grounder, known=known, **options)
        )

    return looked


def _elsewhere(
    space: Space, known: Container[str], options: dict[str, Any], device: str
) -> Callable[[Source], Looked]:
    grounder = load(space.model, device)
    same_model(space.model, space.encoder, grounder.encoder)
    return partial(look, grounder=grounder, known=known, **options)


def _title(source: Source) -> str:
    """Return the title in a container; "" where there is none."""
    if source.film:
        with suppress(*ITEM_ERRORS), open_container(source.given) as container:
            return str(container.metadata.get("title", ""))
    return ""


def _events(source: Source, frames: FrameFeatures) -> list[dict[str, Any]]:
    """Return the events of a video, each with a picture of its middle where there is one."""
    spans, _ = propose(frames.features, frames.edges, options=_EVENTS)
    pictures: list[bytes | None] = [None] * len(spans)
    if source.film:
        try:
            shown = load_frames_at(source.given, spans.mean(axis=1), None, allow_truncated=True)
            pictures = [_jpeg(pixels) for pixels in shown]
        except RemoteError:
            raise
        except ITEM_ERRORS as error:
            _log.info("%s: has no pictures (%s)", source.given, error)  # and is searched without
    return [
        {"content": frames.content, "start": float(s[0]), "end": float(s[1]), "picture": picture}
        for s, picture in zip(spans, pictures, strict=True)
    ]


def _jpeg(pixels: Any) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    image.save(target := BytesIO(), "JPEG", quality=80)
    return target.getvalue()
