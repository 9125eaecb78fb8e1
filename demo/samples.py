"""Sample videos of microworld, drawn on this machine when they are asked for first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .visit import Site

LABEL_SAMPLES = {"domain": "chalk", "videos": 6}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Which video of microworld it is, and what to ask of it."""

    domain: str
    index: int


SAMPLES = {
    "paper": Sample(domain="paper", index=1),
    "night": Sample(domain="night", index=1),
    "fabric": Sample(domain="fabric", index=11),
}


def render_sample(site: Site, name: str) -> tuple[Path, list[str]]:
    """Return a sample's file, and sentences that are true of it.

    Raises:
        ValueError: There is no such sample.
    """
    from zsvg.microworld.world import plan_video, write_video_file

    if name not in SAMPLES:
        raise ValueError(f"there is no sample {name!r}; choose one of {', '.join(SAMPLES)}")
    sample = SAMPLES[name]
    scene, annotations = plan_video(sample.domain, "val", 0, sample.index)
    file = site.folder / "samples" / f"{name}.mp4"
    with site.drawing:
        if not file.exists():
            write_video_file(scene, file)
    # The plainest sentence of each kind, so that the page shows what can be asked.
    queries = sorted(annotations, key=lambda a: ("," in a.query, len(a.query)), reverse=True)
    by_kind = {a.extra["kind"]: a.query for a in queries}
    kinds = ("action", "object", "attribute", "relation")
    return file, [by_kind[kind] for kind in kinds if kind in by_kind][:3]
