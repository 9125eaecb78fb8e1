"""What labelling a set of videos would take, without loading the captioner or writing anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.captioner import CaptionOptions
from zsvg.backbones.endpoint import ANSWER_TOKENS, LETTERS, PICTURE_TOKENS, Endpoint, cost
from zsvg.backbones.names import endpoint_of
from zsvg.errors import ITEM_ERRORS, failure
from zsvg.features.extract import cache_file
from zsvg.label.forms import check_tagger
from zsvg.label.parts import any_part, noted_captioner, part_file, read_part
from zsvg.label.run import LabelOptions, label_settings
from zsvg.label.tagging import Tagger
from zsvg.label.views import pictures
from zsvg.video.hashes import video_hash
from zsvg.video.reading import probe
from zsvg.video.sampling import Sampling, clip_count


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The size of a labelling run, as file headers have it.

    Attributes:
        videos: Readable ones.
        seconds: Their length in all.
        finished: Those that an earlier run has labelled with the same settings.
        cached: Those of the rest whose frame features are in the cache.
        frames: To encode.
        images: To caption or to send, at most.
        samples: Captions drawn of each image; 0: one, by greedy search.
        requests: To an endpoint, at most.
        endpoint: Whom these would go to; None where nothing leaves this machine.
        unreadable: vid -> why it cannot be read.
    """

    videos: int
    seconds: float
    finished: int
    cached: int
    frames: int
    images: int
    samples: int
    unreadable: Mapping[str, str]
    requests: int = 0
    endpoint: Endpoint | None = None

    def lines(self, price: tuple[float, float] | None = None) -> list[str]:
        """Return it as text.

        Args:
            price: Of a million tokens in and out of the endpoint, in any currency.
        """
        left = self.videos - self.finished
        each = f", {self.samples} sampled captions of each" if self.samples else ""
        return [
            f"{self.videos} videos of {self.seconds:,.1f} s in all",
            f"{self.finished} are labelled already, {left} are left",
            f"{self.frames:,} frames to encode; features of {self.cached} videos are cached",
            *(self._asked(price) or [f"at most {self.images:,} images to caption{each}"]),
            *(f"cannot be read: {reason}" for reason in self.unreadable.values()),
            "nothing was written",
        ]

    def _asked(self, price: tuple[float, float] | None) -> list[str]:
        """Return what an endpoint would be asked; answers of earlier runs are not looked for."""
        if self.endpoint is None:
            return []
        tokens = self.endpoint.estimate(self.requests, self.images)
        lines = [
            f"at most {self.requests:,} requests with {self.images:,} images to "
            f"{self.endpoint.chat}",
            f"about {tokens[0]:,} tokens in ({PICTURE_TOKENS} an image, one for {LETTERS} letters) "
            f"and {tokens[1]:,} out ({ANSWER_TOKENS} an answer)",
        ]
        if price is not None:
            money, each = cost(*tokens, price), "{:g}/{:g}".format(*price)
            lines.append(f"about {money:.4f} at {each} a million tokens in and out")
        return lines


def forecast(
    videos: Mapping[str, Path],
    backbone: TunableBackbone,
    captioner: str | None,
    *,
    options: LabelOptions,
    tagger: Tagger | None = None,
    seed: int,
    cache: Path,
    work_dir: Path,
    sampling: Sampling,
    on_progress: Callable[[int], None] | None = None,
) -> Forecast:
    """Count what `zsvg.label.run.pseudo_label` would have to do.

    Videos are read whole only where there is something to find: features or finished videos.

    Args:
        videos: vid -> file.
        backbone: Frozen CLIP; it decides what is cached.
        captioner: The captioner's name; without effect where no captioner is needed.
        options: As of `pseudo_label`, like the next ones.
        tagger: What tells nouns and verbs.
        seed: Of everything random.
        cache: Folder of frame features.
        work_dir: Folder of finished videos.
        sampling: Which frames are looked at.
        on_progress: Called with the number of videos looked at, after each.

    Raises:
        ZsvgError: The options need a tagger that is not given.
    """
    queries = options.queries
    check_tagger(queries, tagger)
    begun = any_part(work_dir)
    endpoint = None
    if captioner is not None and queries.speaks and endpoint_of(captioner) is not None:
        endpoint = Endpoint(captioner)
    noted = noted_captioner(work_dir, captioner) if begun and queries.speaks else None
    if endpoint is not None:
        noted = endpoint.fingerprint
    known = begun and (noted is not None or not queries.speaks)
    settings = label_settings(
        options=options,
        captions=CaptionOptions() if endpoint is None else endpoint.options,
        seed=seed,
        sampling=sampling,
        backbone=backbone.fingerprint,
        captioner=noted,
        tagger=tagger.fingerprint if tagger else None,
    )
    some_cached = any(Path(cache).expanduser().glob("*.safetensors"))
    events = options.proposals.count if queries.speaks else 0
    shown = pictures(queries.view, endpoint is not None)
    draws = 1 if endpoint is None else max(queries.samples, 1)
    seconds, finished, cached, frames = 0.0, 0, 0, 0
    unreadable: dict[str, str] = {}
    for done, vid in enumerate(sorted(videos), start=1):
        if on_progress is not None:
            on_progress(done)
        try:
            duration = probe(videos[vid]).duration
            content = video_hash(videos[vid], cache) if known or some_cached else ""
        except ITEM_ERRORS as error:
            unreadable[vid] = failure(videos[vid], error)
            continue
        seconds += duration
        if known and read_part(part_file(work_dir, settings, content)) is not None:
            finished += 1
            continue
        kept = cache_file(cache, content, backbone, sampling)
        if content and os.path.isfile(kept):  # one that may not be looked into holds nothing
            cached += 1
        else:
            frames += clip_count(duration, sampling.fps)
    readable = len(videos) - len(unreadable)
    requests = (readable - finished) * events * draws
    return Forecast(
        videos=readable,
        seconds=seconds,
        finished=finished,
        cached=cached,
        frames=frames,
        images=requests * shown,
        samples=queries.samples if queries.speaks else 0,
        unreadable=unreadable,
        requests=0 if endpoint is None else requests,
        endpoint=endpoint,
    )
