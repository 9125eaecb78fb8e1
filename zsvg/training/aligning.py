"""What an alignment is fitted on: moments of true labels, events of true sentences, best clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zsvg.backbones.base import TunableBackbone
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.alignment import (
    Alignment,
    fit_alignment,
    look_of_windows,
    looks_of_best_clips,
)
from zsvg.records import FROM_FRAMES, Annotation
from zsvg.training.labels import is_pseudo
from zsvg.training.supervision import aligned_by_events, encoded_sentences


def alignment_of(
    labels: Sequence[Annotation],
    videos: Mapping[str, FrameFeatures],
    backbone: TunableBackbone,
    *,
    told: str,
) -> Alignment | None:
    """Fit sentences to looks; None where fewer than two differ.

    Windows of true labels are believed. Those that a machine found are not: sentences that are only
    known to be true look like the events that they are placed on, and what all others look like is
    told by the clips of all videos.

    Args:
        labels: What is trained on, every one with windows.
        videos: vid -> frame features.
        backbone: The frozen CLIP, without prompts.
        told: What annotations tell, see `zsvg.training.supervision.hide`.
    """
    asked = [label for label in labels if label.query != FROM_FRAMES]
    texts = encoded_sentences(sorted({a.query for a in asked}), backbone, backbone.template)
    if len(texts) < 2:
        return None
    if told == "weak" and not any(map(is_pseudo, asked)):
        return aligned_by_events(asked, videos, texts)
    timed = [a for a in asked if told == "full" and not is_pseudo(a)]
    others = sorted({a.query for a in asked} - {a.query for a in timed})
    sentences = [texts[a.query] for a in timed] + [texts[query] for query in others]
    looks = [look_of_windows(videos[a.vid], a.relevant_windows) for a in timed]
    if others:
        used = [videos[vid] for vid in sorted({label.vid for label in labels})]
        looks += list(looks_of_best_clips(np.stack([texts[query] for query in others]), used))
    return fit_alignment(np.stack(sentences), np.stack(looks))
