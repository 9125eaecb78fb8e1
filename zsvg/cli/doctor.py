"""Checks that this machine has what zsvg needs, and a trial of the real code."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.filesize import decimal

import zsvg

REINSTALL = "reinstall with `python -m pip install --force-reinstall zsvg`"
DECODERS = ("h264", "hevc", "mpeg4", "vp8", "vp9", "av1")
_MODULES = {
    **{"open-clip-torch": "open_clip", "scikit-learn": "sklearn", "pillow": "PIL"},
    "pyyaml": "yaml",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        group: Its group, such as "packages".
        name: What was checked.
        found: What was found.
        remedy: What to do about it; empty where nothing has to be done.
    """

    group: str
    name: str
    found: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether zsvg can work with it."""
        return not self.remedy


def diagnose(cache: str | Path | None = None) -> list[Check]:
    """Run all checks; nothing is downloaded, and no file is left behind.

    Args:
        cache: Folder of frame features; by default the one that commands use.
    """
    checks = [*_checks("system", _system()), *_checks("packages", _packages())]
    if not all(check.ok for check in checks):
        return checks  # what follows needs the packages
    from zsvg.features.extract import default_cache

    folder = Path(cache).expanduser() if cache is not None else default_cache()
    for group, seen in (
        ("devices", _devices()),
        ("video", _codecs()),
        ("folders", _folders(folder)),
        ("offline", _models()),
        ("tried out", _try_out()),
    ):
        checks += _checks(group, seen)
    return checks


_Seen = Iterator[tuple[str, str, str]]  # name, found, remedy


def _checks(group: str, seen: _Seen) -> Iterator[Check]:
    for name, found, remedy in seen:
        yield Check(group=group, name=name, found=found, remedy=remedy)


def _system() -> _Seen:
    yield "zsvg", f"{zsvg.__version__} in {Path(zsvg.__file__).parent}", ""
    remedy = "install Python 3.10 or newer" if sys.version_info < (3, 10) else ""
    yield "Python", f"{platform.python_version()} on {platform.platform()}", remedy


def _packages() -> _Seen:
    """Check that each dependency is installed in a fitting version and can be imported."""
    try:
        wanted = metadata.requires("zsvg") or []
    except metadata.PackageNotFoundError:
        wanted = []  # run from a checkout that is not installed: imports will tell
    for line in wanted:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        name = canonicalize_name(requirement.name)
        try:
            found = metadata.version(name)
            if requirement.specifier.contains(found, prereleases=True):
                importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
                remedy = ""
            else:
                found, remedy = f"{found}, but zsvg needs {requirement.specifier}", REINSTALL
        except metadata.PackageNotFoundError:
            found, remedy = "missing", f'`python -m pip install "{requirement}"`'
        except Exception as error:  # whatever an import of a broken package raises
            found, remedy = f"{found}, but: {_line(error)}", f"{REINSTALL}, or its package alone"
        yield requirement.name, found, remedy


def _devices() -> _Seen:
    import torch

    from zsvg.backbones.base import pick_device

    yield "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads", ""
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB", ""
    if torch.backends.mps.is_available():
        yield "mps", "Apple's GPU", ""
    yield "used", f"{pick_device()}, unless --device says else", ""


def _codecs() -> _Seen:
    import av

    def there(name: str, mode: str) -> bool:
        try:
            return bool(av.Codec(name, mode))
        except av.codec.codec.UnknownCodecError:
            return False

    able = [name for name in DECODERS if there(name, "r")]
    lacking = [name for name in DECODERS if name not in able]
    found = ", ".join(able) + (f"; not {', '.join(lacking)}" if lacking else "")
    remedy = "`python -m pip install --force-reinstall av`"
    yield "decodes", found, "" if "h264" in able else remedy
    if there("libx264", "w"):
        yield "encodes", "libx264", ""
    else:
        yield "encodes", "not libx264, which --cut and microworld write with", remedy


def _folders(cache: Path) -> _Seen:
    from zsvg.backbones.offline import hub_folder
    from zsvg.features.cache import cache_content

    hub, temporary = hub_folder(), Path(tempfile.gettempdir())

    def cached() -> str:
        content = cache_content(cache)
        return f", {len(content.files)} files, {decimal(content.size)}"

    def loaded() -> str:
        files = [file for file in hub.glob("models--*/blobs/*") if file.is_file()]
        return f", {decimal(sum(file.stat().st_size for file in files))}"

    for name, folder, content, variable in (
        ("features", cache, cached, "ZSVG_CACHE"),
        ("downloads", hub, loaded, "HF_HOME"),
        ("temporary files", temporary, str, "TMPDIR"),
    ):
        remedy = f"set {variable} to a folder that you may write"
        try:
            free = decimal(shutil.disk_usage(_existing(folder)).free)
            found = f"{folder}{content()}; {free} free"
        except OSError as error:  # a folder of somebody else
            yield name, f"{folder}; cannot be read ({error.strerror})", remedy
            continue
        try:
            tempfile.TemporaryFile(dir=_existing(folder)).close()
        except OSError:
            yield name, f"{found}; cannot be written", remedy
        else:
            yield name, found, ""


def _models() -> _Seen:
    from zsvg.backbones.offline import offline_models

    models = offline_models()
    for name in ("backbones", "captioners", "encoders"):
        yield name, ", ".join(getattr(models, name)), ""


def _try_out() -> _Seen:
    """Render a video, encode it, ground a query, and caption a frame: real code, real weights."""
    with tempfile.TemporaryDirectory(prefix="zsvg-doctor-") as folder:
        for name, step in (("asks a video", _ask), ("captions a frame", _caption)):
            started = time.monotonic()
            try:
                found = step(Path(folder))
            except Exception as error:  # the doctor reports what breaks, whatever it is
                yield name, _line(error), REINSTALL
            else:
                yield name, f"{found} in {time.monotonic() - started:.1f} s", ""


def _ask(folder: Path) -> str:
    from zsvg.grounding.load import load
    from zsvg.microworld.world import plan_video, write_video_file

    scene, annotations = plan_video("studio", "train", 0, 0)
    write_video_file(scene, folder / "video.mp4")
    grounder = load("micro")
    moments = grounder.ground(folder / "video.mp4", annotations[0].query).moments
    return f"micro on {grounder.backbone.device}: {len(moments)} moments"


def _caption(folder: Path) -> str:
    from zsvg.backbones.captioner import load_captioner
    from zsvg.video.sampling import load_frames_at

    captioner = load_captioner("micro")
    frames = load_frames_at(folder / "video.mp4", [1.0], captioner.image_size)
    return f"micro: {captioner.caption(list(frames))[0]!r}"


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
