"""Pseudo labels from captions that somebody else made: no video is opened, no frame looked at.

Events are proposed on the captions' sentence embeddings. What is said of an event are its own
clips' captions, so nothing has to be generated: `zsvg.label.queries.choose` picks among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.captions import CaptionBackbone, encode_captions, read_captions
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.events.proposals import propose
from zsvg.files import sha256_json
from zsvg.label.forms import check_tagger, phrase, well_said
from zsvg.label.run import LabelOptions, LabelReport, report_of
from zsvg.label.tagging import Tagger
from zsvg.label.video import as_json
from zsvg.label.views import clean
from zsvg.moments import spans_to_mask

CAPTIONER = "ready captions"
"""What stands as captioner in the source of these labels."""


def label_captions(
    tracks: Mapping[str, Path],
    backbone: CaptionBackbone,
    *,
    options: LabelOptions | None = None,
    seed: int = 0,
    tagger: Tagger | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> LabelReport:
    """Write pseudo labels for videos of which only captions are at hand.

    A caption agrees fully with its own clip, so scores are higher than those of captions that a
    captioner writes for the whole event; thresholds for one do not fit the other.

    Args:
        tracks: vid -> caption file, as `zsvg.backbones.captions.read_captions` takes it.
        backbone: Its sentence encoder says which captions are alike. With `captions:tfidf`, words
            count by how rare they are in the video, as they do when it answers queries.
        options: What to propose and which sentences to keep; `view` and `samples` do nothing here.
        seed: Of random proposals. Each file draws from its own stream (seed, captions).
        tagger: As of `zsvg.label.run.pseudo_label`.
        on_progress: Called with (files done, files in all, vid) after each file.

    Returns:
        Labels of all files that could be read; the others under `failures`.

    Raises:
        ZsvgError: The options ask for frames, or for a tagger that is not given.
    """
    options = options or LabelOptions()
    if not options.queries.speaks:
        raise ZsvgError("form 'features' makes queries of frames; ready captions have none")
    check_tagger(options.queries, tagger)
    parts: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    for done, vid in enumerate(tracks, start=1):
        try:
            parts[vid] = _label_track(tracks[vid], backbone, options, seed, tagger)
        except ITEM_ERRORS as error:
            failures[vid] = failure(tracks[vid], error)
        if on_progress is not None:
            on_progress(done, len(tracks), vid)
    return report_of(parts, failures, options, backbone.name, CAPTIONER)


def _label_track(
    path: Path,
    backbone: CaptionBackbone,
    options: LabelOptions,
    seed: int,
    tagger: Tagger | None,
) -> dict[str, Any]:
    """Return what the captions of one video say, as JSON. Its name is not part of it."""
    track = read_captions(path)
    video = encode_captions(backbone, track)
    encoder = backbone.encoder
    rows = encoder.weigh(video.features, video.features)
    events, _ = propose(
        rows,
        video.edges,
        options=options.proposals,
        seed=int(sha256_json([seed, video.content])[:8], 16),
    )
    queries = options.queries
    said = [clean(caption) for caption in track.captions]
    said = [caption if well_said(caption, queries) else "" for caption in said]
    captions = [central(said, rows, spans_to_mask(event[None], video.centres)) for event in events]
    chosen = phrase(
        captions,
        lambda texts: encoder.weigh(encoder.encode(texts), video.features),
        rows,
        events=events,
        centres=video.centres,
        options=queries,
        tagger=tagger,
    )
    return {
        "duration": float(video.duration),
        "labels": [as_json(query, queries) for query in chosen],
    }


def central(said: list[str], rows: NDArray[np.floating], inside: NDArray[np.bool_]) -> list[str]:
    """Return the captions of an event that are nearest to the mean of all of them.

    Many captions of an event tell it from the rest of the video about equally well, and the one
    that does so best is often odd. The half with the highest cosine to the mean caption is kept.

    Args:
        said: The T captions; "" where there is none.
        rows: (T, D) their embeddings, length one or zero.
        inside: (T,) which clips belong to the event.

    Returns:
        At least half of its different captions, sorted; none where nothing was said. Capitals make
        no difference.
    """
    clips = [index for index in np.flatnonzero(inside) if said[index]]
    if not clips:
        return []
    mean = rows[clips].mean(axis=0)
    # Captions that differ in capitals or a full stop are one: rounding must not choose.
    likeness: dict[str, float] = {}
    spelling: dict[str, str] = {}
    for index in clips:
        text, value = said[index], round(float(rows[index] @ mean), 6)
        key = text.casefold()
        likeness[key] = max(value, likeness.get(key, value))
        spelling[key] = min(text, spelling.get(key, text))
    least = float(np.median(list(likeness.values())))
    return sorted(spelling[key] for key, value in likeness.items() if value >= least)
