"""Frozen frame features: decode and encode at once, keep them by content, never by path."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zsvg.errors import VideoError, ZsvgError
from zsvg.features.ahead import ahead
from zsvg.features.encoder import FrameEncoder, FrameFeatures
from zsvg.features.strangers import note
from zsvg.files import atomic_path, sha256_json
from zsvg.places.urls import place_of
from zsvg.video.clock import Timeline, remember, timeline
from zsvg.video.decoding import VideoInfo
from zsvg.video.hashes import video_hash
from zsvg.video.sampling import FrameSampler, Sampling

FORMAT = 2
"""Part of every cache key: raise it when sampling, resizing or the file layout change."""

_BATCH = 16  # frames per forward pass
_log = logging.getLogger(__name__)
_saving = threading.Lock()  # temporary names differ between processes, not between threads
_told: set[Path] = set()  # folders that something was wrong with: it is said once


def default_cache() -> Path:
    """Return `$ZSVG_CACHE`, or `~/.cache/zsvg/features`."""
    chosen = os.environ.get("ZSVG_CACHE") or "~/.cache/zsvg/features"
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise ZsvgError(
            f"the cache {chosen} is in a home folder that nobody knows; set ZSVG_CACHE to a folder"
        ) from None


def cache_file(
    cache: str | Path,
    content: str,
    backbone: FrameEncoder,
    sampling: Sampling = Sampling(),
) -> Path:
    """Return where `extract` keeps the features of a video, at its own `batch_size`.

    Args:
        cache: Folder of cached features.
        content: SHA-256 of the video file.
        backbone: As of `extract`, like the next one.
        sampling: Which frames are looked at.
    """
    key = _key(content, backbone, sampling, _BATCH)
    return Path(cache).expanduser() / file_name(key)


def file_name(key: Mapping[str, Any]) -> str:
    """Return the name of the cache file with this key, which it holds too."""
    return f"{sha256_json(key)}.safetensors"


def _key(
    content: str, backbone: FrameEncoder, sampling: Sampling, batch_size: int
) -> dict[str, Any]:
    """Return everything that decides the bytes of a video's features."""
    return {
        "format": FORMAT,
        "content": content,
        "fingerprint": backbone.fingerprint,
        "precision": backbone.precision,
        "fps": float(sampling.fps),
        "framing": sampling.framing,
        "batch_size": batch_size,
    }


def content_of(path: str | Path, backbone: FrameEncoder, cache: str | Path | None = None) -> str:
    """Return the SHA-256 of a video, or of its features where the backbone has them ready."""
    ready = backbone.ready(path)
    return video_hash(path, cache) if ready is None else ready.content


def extract(
    path: str | Path,
    backbone: FrameEncoder,
    sampling: Sampling = Sampling(),
    *,
    cache: str | Path | None = None,
    batch_size: int = _BATCH,
) -> FrameFeatures:
    """Return a video's frame features: ready ones, from the cache, or by decoding and encoding it.

    Features are rounded through float16 either way, so fresh and cached calls are equal, and a
    batch never spans videos, so neither the order nor the company of videos matters.

    Args:
        path: The video.
        backbone: The frozen backbone.
        sampling: Which frames are looked at, and how.
        cache: Folder of cached features; None neither reads nor writes one. It only saves time: one
            that cannot be used is said in one warning, and done without.
        batch_size: Frames per forward pass; small ones let short videos overlap too. Part of the
            cache key, because a row's last bits depend on it.

    Raises:
        TruncatedVideoError: The file ends early; the message names the time reached.
        VideoError: The file is not a usable video.
        ValueError: An option is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if (ready := backbone.ready(path)) is not None:
        return ready
    path = place_of(path)
    sampler = FrameSampler(path, backbone.image_size, sampling)
    if not path.is_file():
        raise VideoError(f"{path}: no such file; give the path of one video")
    content = video_hash(path, cache)
    key = _key(content, backbone, sampling, batch_size)
    file = None if cache is None else Path(cache).expanduser() / file_name(key)
    stored = None if file is None else _load(file, backbone.embed_dim)
    if stored is None or (stored[2]["truncated_at"] is not None and not sampling.allow_truncated):
        if file is not None:
            before = (file_name({**key, "format": old}) for old in range(1, FORMAT))
            if any(os.path.isfile(file.parent / name) for name in before):
                _tell_of_old(file.parent)
        started = time.monotonic()
        features, times, info = _encode(sampler, backbone, batch_size)
        _log.info("%s: %d frames encoded in %.1f s", path, len(times), time.monotonic() - started)
        fresh: dict[str, Any] = {
            "duration": info.duration,
            "truncated_at": info.truncated_at,
            "timeline": timeline(path).to_json(),
            "size": [info.width, info.height],
        }
        stored = features.astype(np.float16), times, fresh
        if file is not None:
            _save(file, *stored, key)
    elif file is not None:
        _log.debug("%s: features read from %s", path, file)
        remember(path, Timeline.from_json(stored[2]["timeline"]))
        _mark_used(file)
    sampler.close()
    half, times, meta = stored
    note(path, backbone.name, meta.get("size"))  # files of version 0.1 know no size
    return FrameFeatures(
        vid=path.stem,
        features=unit_rows(half),
        times=times,
        duration=float(meta["duration"]),
        fps=float(sampling.fps),
        framing=sampling.framing,
        fingerprint=backbone.fingerprint,
        content=content,
    )


def unit_rows(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return stored features (T, D) as rows of unit length."""
    rows = half.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return rows


def _encode(
    sampler: FrameSampler, backbone: FrameEncoder, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], VideoInfo]:
    """Encode all frames while a second thread decodes on; one that stands for long, once."""
    import torch

    # One block that doubles. Thousands of small tensors, each allocated between the large ones of a
    # forward pass, would keep the heap from shrinking: memory would grow with the video's length.
    rows = torch.empty(256, backbone.embed_dim, device=backbone.device)
    times: list[float] = []
    counts: list[int] = []
    with torch.no_grad():
        for batch_times, clips, frames in _batches(sampler, batch_size):
            start = len(times)
            times.extend(batch_times)
            counts.extend(clips)
            while len(times) > len(rows):
                rows = torch.cat((rows, torch.empty_like(rows)))
            # On a GPU this returns before it is done.
            rows[start : len(times)] = backbone.encode_frames(frames)
        features = rows[: len(times)].cpu().numpy()
    if sampler.info is None:
        raise RuntimeError("the sampler ended without describing the video")
    clips_each = np.asarray(counts)
    return (
        np.repeat(features, clips_each, axis=0),
        np.repeat(np.asarray(times, dtype=np.float64), clips_each),
        sampler.info,
    )


def _batches(
    sampler: FrameSampler, batch_size: int
) -> Iterator[tuple[list[float], list[int], NDArray[np.uint8]]]:
    """Yield (times, clips that each lasts, (B, size, size, 3) uint8) of frames that differ.

    A thread decodes two batches ahead: FFmpeg releases the interpreter while it decodes, and so
    does torch while it computes.
    """
    times: list[float] = []
    clips: list[int] = []
    frames: list[NDArray[np.uint8]] = []
    try:
        coming = ahead(repeat(sampler), lambda one: next(one, None), 2 * batch_size, wait=True)
        with closing(coming) as decoded:
            for _, future in decoded:
                shown = future.result()
                if shown is None:
                    break
                time, pixels = shown
                if frames and pixels is frames[-1]:
                    clips[-1] += 1
                    continue
                if len(frames) == batch_size:
                    yield times, clips, np.stack(frames)
                    times, clips, frames = [], [], []
                times.append(time)
                clips.append(1)
                frames.append(pixels)
    finally:
        sampler.close()
    yield times, clips, np.stack(frames)


@lru_cache
def _tell_of_old(folder: Path) -> None:
    """Say once what becomes of features that an older version made."""
    _log.warning(
        "%s: features of an older version lie here and are made again; `zsvg cache prune "
        "--unused` removes the old ones",
        folder,
    )


def _mark_used(file: Path) -> None:
    """Set the file's time, by which `zsvg cache` tells when it was used last.

    The time of the last access would not do: file systems keep it loosely, and a look changes it.
    """
    with suppress(OSError):  # a cache of somebody else, only to read
        os.utime(file)


def _save(
    file: Path,
    features: NDArray[np.float16],
    times: NDArray[np.float64],
    meta: dict[str, Any],
    key: dict[str, Any],
) -> None:
    # One metadata key only: safetensors writes several in random order.
    text = json.dumps({**meta, "key": key}, sort_keys=True, allow_nan=False)
    data = save({"features": features, "times": times}, metadata={"zsvg": text})
    try:
        with _saving, atomic_path(file) as temporary:
            temporary.write_bytes(data)
    except (OSError, ZsvgError) as error:  # full, only to read, or no folder
        _warn(file.parent, f"cannot be written ({getattr(error, 'strerror', None) or error})")


def _warn(folder: Path, trouble: str) -> None:
    """Say once what is wrong with a cache: what is said of every video hides all else."""
    with _saving:
        if folder not in _told:
            _told.add(folder)
            _log.warning("the cache of frame features %s %s; going on without it", folder, trouble)


def _load(
    file: Path, embed_dim: int
) -> tuple[NDArray[np.float16], NDArray[np.float64], dict[str, Any]] | None:
    """Return a cache file's content, None when it is missing or damaged (then it is rewritten)."""
    try:
        with safe_open(file, framework="numpy") as handle:
            features, times = handle.get_tensor("features"), handle.get_tensor("times")
            meta = json.loads((handle.metadata() or {})["zsvg"])
        whole = (
            features.dtype == np.float16
            and features.shape == (len(times), embed_dim)
            and len(times) > 0
            and bool(np.isfinite(features).all())
            and float(meta["duration"]) > 0
            and "truncated_at" in meta
            and Timeline.from_json(meta["timeline"]) is not None
        )
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        whole = False
    if not whole:
        _warn(file.parent, f"holds a damaged file, {file.name}")
    return (features, times, meta) if whole else None
