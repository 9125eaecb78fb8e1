"""Features of many videos, encoded once and kept in the cache, here or by a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zsvg.backbones.clip import load_backbone
from zsvg.features.ahead import in_turn
from zsvg.features.cluster import Cluster, spread
from zsvg.features.encoder import FrameEncoder
from zsvg.features.extract import cache_file, extract
from zsvg.video.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is known of a video whose frames were encoded.

    Attributes:
        seconds: How long it is.
        frames: How many were looked at.
        first: Time of the first one, seconds.
        last: Of the last one.
        kept: Whether the features lie in the cache.
    """

    seconds: float
    frames: int
    first: float
    last: float
    kept: bool


def keep_features(
    videos: Mapping[str, Path],
    backbone: str | None,
    sampling: Sampling,
    cache: Path,
    *,
    device: str | None = None,
    cluster: Cluster | None = None,
) -> Generator[tuple[str, Future[Kept]], None, None]:
    """Load the backbone, and yield vids with what is known of them as they are encoded and kept.

    Args:
        videos: vid -> file.
        backbone: As of `zsvg.backbones.clip.load_backbone`, like `device`.
        sampling: Which frames are looked at.
        cache: Folder of frame features; workers of a cluster write to it, too.
        device: Of this process.
        cluster: Whose workers encode; None: this process does, in the order of the videos.
    """
    make = partial(_keeping, backbone, sampling, cache)
    if cluster is not None:
        return spread(videos, make, cluster)
    keep = make(device)
    return in_turn(videos, lambda vid: keep(videos[vid]))


def _keeping(
    backbone: str | None, sampling: Sampling, cache: Path, device: str | None
) -> Callable[[Path], Kept]:
    return partial(_keep, load_backbone(backbone, device), sampling, cache)


def _keep(backbone: FrameEncoder, sampling: Sampling, cache: Path, path: Path) -> Kept:
    video = extract(path, backbone, sampling, cache=cache)
    return Kept(
        seconds=video.duration,
        frames=len(video.times),
        first=float(video.times[0]),
        last=float(video.times[-1]),
        kept=os.path.isfile(cache_file(cache, video.content, backbone, sampling)),
    )
