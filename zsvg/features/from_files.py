"""Frame and text features that lie in files, as others have published or extracted them.

One file for each video (.npy; .npz, .safetensors or HDF5 with the array `features`, or with one
array only), as Moment-DETR, Lighthouse and UniVTG have them; or one file of .npz, .safetensors or
HDF5 with an array for each video. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from zsvg.errors import RecordError, VideoError, ZsvgError, reason
from zsvg.features.encoder import FrameFeatures
from zsvg.places.urls import local, place_of
from zsvg.records import video_key
from zsvg.video.finding import Videos, find_videos

SUFFIXES = (".npy", ".npz", ".safetensors", ".h5", ".hdf5")
_USUAL = "features"  # of Moment-DETR's .npz
_TOKENS, _POOLED = ("last_hidden_state", "tokens"), ("pooler_output", "pooled")
_SLACK = 1.0  # rows that may lack or be too many
_LEAST, _MOST = 1e-3, 1e6  # seconds of a clip
_INSIDE = "@"  # ends the name of an array in a file, as part of a path
_DEEP = 8  # groups of HDF5


def holds_features(path: Path) -> bool:
    """Return whether a path, as `FeatureFiles` gives it, is one of features and not of a video."""
    file = path.parent if path.name.endswith(_INSIDE) else path
    return file.suffix.lower() in SUFFIXES


@dataclass(frozen=True, eq=False)
class FeatureFiles(Mapping[str, Path]):
    """Features of videos in files, and how their rows lie in time; give it in place of videos.

    As a mapping it is vid -> file; of one file for all videos, its path with the vid behind it.

    Attributes:
        place: Folder of files, one for each video (called by its path below the folder, without
            suffix), or one file with an array for each.
        seconds: From one row to the next. None: the rows of a video are spread evenly over it.
        window: Seconds that each row was made of, where windows overlap; `seconds` without it.
        durations: vid -> seconds. Without one a video ends with its last row, which takes
            `seconds`.

    Raises:
        VideoError: There are none, or the file cannot be read.
        ValueError: Seconds are out of range.
    """

    place: str | Path
    seconds: float | None = None
    window: float | None = None
    durations: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("clip", self.seconds), ("window", self.window)):
            if value is not None and not _LEAST <= value <= _MOST:
                raise ValueError(f"{name} seconds {value:g} must lie in [{_LEAST:g}, {_MOST:g}]")
        if self.window is not None and self.seconds is None:
            raise ValueError("window seconds are of no use without clip seconds; give both")
        _ = self._files  # raises

    @cached_property
    def _files(self) -> Videos:
        given = local(self.place, "features")
        if given.is_dir() or given.suffix.lower() == ".npy":
            return find_videos(given, suffixes=SUFFIXES)
        if not given.is_file():
            raise VideoError(f"{given}: no such file or folder; give a folder of features")
        with _opened(given) as arrays:
            # A name may be a path, or hold what a path would lose.
            found = {name: given / f"{quote(name, safe='')}{_INSIDE}" for name in arrays}
        if not found:
            raise VideoError(f"{given}: there is no array in it")
        return Videos(found)

    def lasting(self, durations: Mapping[str, float]) -> FeatureFiles:
        """Return the same files, of videos that last so long; they are not looked for again."""
        same = copy(self)
        vars(same).pop("_lengths", None)
        object.__setattr__(same, "durations", {**durations, **self.durations})
        return same

    @property
    def unusable(self) -> tuple[str, ...]:
        """One line each on what was found and cannot be used."""
        return self._files.unusable

    @cached_property
    def names(self) -> Mapping[Path, str]:
        """File -> vid."""
        return {path: vid for vid, path in self._files.items()}

    @cached_property
    def _lengths(self) -> Mapping[str, float]:
        return {video_key(vid): seconds for vid, seconds in self.durations.items()}

    def __getitem__(self, vid: str) -> Path:
        """Return the file of a video."""
        return self._files[vid]

    def __contains__(self, vid: object) -> bool:
        """Whether there are features of a video."""
        return vid in self._files

    def __iter__(self) -> Iterator[str]:
        """Iterate over the videos in the order of their names."""
        return iter(self._files)

    def __len__(self) -> int:
        """Return how many videos there are."""
        return len(self._files)

    def read(self, path: str | Path, *, width: int, fingerprint: str) -> FrameFeatures:
        """Read the features of one video.

        Args:
            path: Its file, as this mapping has it.
            width: What a row must have, the joint space of frames and texts.
            fingerprint: Of the backbone that is asked with them.

        Raises:
            VideoError: They cannot be read, or do not fit the backbone or the video's length.
        """
        path = Path(path)
        vid = self.names.get(path, path.stem)
        rows = unit(_rows(path), path)
        if rows.shape[1] != width:
            raise VideoError(
                f"{path}: rows of {rows.shape[1]} numbers, but the backbone's sentences have "
                f"{width}; give features of its own joint space, or the backbone that made them"
            )
        edges, rate = self._edges(path, len(rows), self._lengths.get(vid))
        rows = rows[: len(edges) - 1]
        return FrameFeatures(
            vid=vid,
            features=rows,
            times=(edges[:-1] + edges[1:]) / 2,
            duration=float(edges[-1]),
            fps=rate,
            framing="crop",
            fingerprint=fingerprint,
            content=sha256(rows.tobytes() + edges.tobytes()).hexdigest(),
            first=float(edges[1]) if len(edges) > 2 else None,
        )

    def _edges(
        self, path: Path, count: int, duration: float | None
    ) -> tuple[NDArray[np.float64], float]:
        """Return the borders of the clips, and how many there are in a second."""
        if duration is not None and not 0 < duration < float("inf"):
            raise VideoError(f"{path}: a video of {duration:g} s; its duration must be above 0")
        if self.seconds is None:
            if duration is None:
                raise VideoError(
                    f"{path}: nobody tells how long the video is; give --clip-seconds, or "
                    "--durations"
                )
            return np.linspace(0, duration, count + 1), count / duration
        step, window = self.seconds, self.window or self.seconds
        length = (count - 1) * step + window
        if duration is None:
            duration = length
        elif abs(length - duration) > _SLACK * step + 1e-6:
            raise VideoError(
                f"{path}: {count} rows of {step:g} s last {length:g} s, but the video "
                f"{duration:g} s; correct --clip-seconds, or leave it out to spread them evenly"
            )
        # A row stands for the step in the middle of its window; the first and last for the ends.
        inner = (window - step) / 2 + step * np.arange(1, count)
        inner = inner[inner < duration - 1e-6]
        return np.concatenate(([0.0], inner, [duration])), 1 / step


def ready(
    files: FeatureFiles | None, path: str | Path, *, width: int, fingerprint: str
) -> FrameFeatures | None:
    """Return the features of a file of `files`; None for others, such as videos.

    Raises:
        VideoError: As of `FeatureFiles.read`.
    """
    if files is None or place_of(path) not in files.names:
        return None
    return files.read(path, width=width, fingerprint=fingerprint)


@dataclass(frozen=True, kw_only=True)
class SentenceFeatures:
    """A sentence, encoded by somebody else.

    Attributes:
        pooled: (D,) float32 of unit length.
        tokens: (L, D) float32, rows of unit length.
    """

    pooled: NDArray[np.float32]
    tokens: NDArray[np.float32]


def read_sentence(folder: str | Path, qid: int | str) -> SentenceFeatures:
    """Read `qidQID.npz` (Moment-DETR), `QID.npz` or `QID.npy` of a folder.

    An archive holds `last_hidden_state` (L, D), `pooler_output` (D,), or both; what is missing is
    the mean of the tokens, or the pooled vector as the only token. An .npy file holds either.

    Raises:
        RecordError: There is no such file, or it holds something else.
    """
    names = [f"qid{qid}.npz", f"{qid}.npz", f"{qid}.npy"]
    here = [Path(folder, name) for name in names if Path(name).name == name]  # not elsewhere
    try:
        path = next((path for path in here if path.is_file()), None)
    except OSError as error:  # the name is too long for one
        raise RecordError(
            f"{folder}: no features of qid {str(qid)[:40]!r} ({error.strerror})"
        ) from error
    if path is None:
        raise RecordError(f"{folder}: no features of the sentence with qid {qid!r} ({names[0]})")
    try:
        if path.suffix == ".npy":
            alone = np.atleast_2d(np.squeeze(_array(path)))
            return _sentence(path, alone if len(alone) > 1 else None, alone[0])
        with _opened(path) as arrays:
            tokens, pooled = (
                next((np.asarray(arrays[key]) for key in keys if key in arrays), None)
                for keys in (_TOKENS, _POOLED)
            )
            known = list(arrays)
        if tokens is None and pooled is None:
            raise RecordError(f"{path}: neither {_TOKENS[0]} nor {_POOLED[0]} among {known}")
        return _sentence(path, tokens, pooled)
    except VideoError as error:
        raise RecordError(str(error)) from error


def _sentence(
    path: Path, tokens: NDArray[Any] | None, pooled: NDArray[Any] | None
) -> SentenceFeatures:
    if tokens is None:
        tokens = np.reshape(np.asarray(pooled), (1, -1))
    rows = unit(tokens[0] if tokens.ndim == 3 and len(tokens) == 1 else tokens, path)
    given = rows.mean(axis=0) if pooled is None else pooled
    if given.size != rows.shape[1] or max(given.shape) != given.size:
        raise RecordError(f"{path}: pooled {given.shape} beside tokens of {rows.shape[1]} numbers")
    return SentenceFeatures(pooled=unit(np.reshape(given, (1, -1)), path)[0], tokens=rows)


def unit(rows: NDArray[Any], path: object) -> NDArray[np.float32]:
    """Return rows (T, D) as float32 of unit length.

    Raises:
        VideoError: They are no such rows, or one is not finite or zero; the message begins with
            `path`.
    """
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "fiu":
        raise VideoError(
            f"{path}: an array of shape {rows.shape} and type {rows.dtype}; features are (clips, "
            "width) numbers"
        )
    values = rows.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1)
    for problem, bad in (("not finite", ~np.isfinite(lengths)), ("all zeros", lengths == 0)):
        if bad.any():
            raise VideoError(
                f"{path}: row {int(bad.argmax())} is {problem} ({int(bad.sum())} of {len(bad)}); "
                "make these features again"
            )
    scaled: NDArray[np.float32] = (values / lengths[:, None]).astype(np.float32)
    return scaled


def _rows(path: Path) -> NDArray[Any]:
    inside = path.name.endswith(_INSIDE)
    file = path.parent if inside else path
    if file.suffix.lower() == ".npy":
        return _array(file)
    with _opened(file) as arrays:
        name = unquote(path.name.removesuffix(_INSIDE)) if inside else _USUAL
        if not inside and name not in arrays:
            if len(arrays) != 1:
                raise VideoError(
                    f"{path}: which of {sorted(arrays)[:5]} holds the features? Call it {_USUAL!r}"
                )
            (name,) = arrays
        return _only(arrays[name], path)


def _only(value: Any, path: Path) -> NDArray[Any]:
    """Return an array; of a group of HDF5, such as ActivityNet's, the only one inside."""
    for _ in range(_DEEP):  # groups may hold themselves
        if not isinstance(value, Mapping):
            return np.asarray(value)
        if len(value) != 1:
            raise VideoError(f"{path}: a group of {len(value)} arrays; one is needed")
        (value,) = value.values()
    raise VideoError(f"{path}: groups within groups, and no array")


def _array(path: Path) -> NDArray[Any]:
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("it holds several")
    except Exception as error:  # for damaged headers numpy raises half a dozen types
        raise VideoError(f"{path}: no array can be read ({reason(error)})") from error
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open an archive of arrays, which are read when they are asked for."""
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                yield arrays
        elif kind == ".safetensors":
            with safe_open(path, framework="pt") as handle:  # numpy knows no bfloat16
                yield {name: _Lazy(handle, name) for name in handle.keys()}  # noqa: SIM118
        elif kind in (".h5", ".hdf5"):
            with _h5py().File(path, "r") as arrays:
                yield arrays
        else:
            raise VideoError(f"{path}: no file of features ({', '.join(SUFFIXES)})")
    except ZsvgError:
        raise
    except Exception as error:  # for damaged files numpy, safetensors and h5py raise a dozen types
        raise VideoError(f"{path}: cannot be read as {kind} ({reason(error)})") from error


@dataclass(frozen=True)
class _Lazy:
    handle: Any
    name: str

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        tensor = self.handle.get_tensor(self.name)
        if tensor.is_floating_point():
            tensor = tensor.float()
        return np.asarray(tensor.numpy(), *args, **kwargs)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ZsvgError("HDF5 files need h5py: pip install 'zsvg[hdf5]'") from None
    return h5py
