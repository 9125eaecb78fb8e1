"""What labelling a set of videos would take, without loading the captioner or writing anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.captioner import CaptionOptions
from zsvg.backbones.endpoint import LETTERS, PICTURE_TOKENS, Endpoint, Errand, cost
from zsvg.backbones.names import endpoint_of
from zsvg.errors import ITEM_ERRORS, failure
from zsvg.features.extract import cache_file
from zsvg.label.asking import Asking
from zsvg.label.forms import check_tagger
from zsvg.label.look import MOST
from zsvg.label.opinions import JUDGED
from zsvg.label.parts import any_part, noted_captioner, part_file, read_part
from zsvg.label.run import LabelOptions, label_settings
from zsvg.label.tagging import Tagger
from zsvg.label.views import pictures
from zsvg.video.hashes import video_hash
from zsvg.video.reading import probe
from zsvg.video.sampling import Sampling, clip_count

_LOOK_TOKENS, _SENTENCE_TOKENS, _VERDICT_TOKENS = 150, 25, 15  # of usual answers


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The size of a labelling run, as file headers have it.

    Attributes:
        videos: Readable ones.
        seconds: Their length in all.
        finished: Those that an earlier run has labelled with the same settings.
        cached: Those of the rest whose frame features are in the cache.
        frames: To encode.
        images: To caption here, at most.
        samples: Captions drawn of each image; 0: one, by greedy search.
        unreadable: vid -> why it cannot be read.
        asked: Endpoints and what they would be asked; none where nothing leaves this machine.
    """

    videos: int
    seconds: float
    finished: int
    cached: int
    frames: int
    images: int
    samples: int
    unreadable: Mapping[str, str]
    asked: Sequence[tuple[Endpoint, Errand]] = ()

    def lines(self, price: tuple[float, float] | None = None) -> list[str]:
        """Return it as text.

        Args:
            price: Of a million tokens in and out of the endpoints, in any currency.
        """
        left = self.videos - self.finished
        each = f", {self.samples} sampled captions of each" if self.samples else ""
        return [
            f"{self.videos} videos of {self.seconds:,.1f} s in all",
            f"{self.finished} are labelled already, {left} are left",
            f"{self.frames:,} frames to encode; features of {self.cached} videos are cached",
            *([f"at most {self.images:,} images to caption{each}"] if not self.sent else []),
            *(line for whom, errand in self.asked for line in _told(whom, errand, price)),
            *(f"cannot be read: {reason}" for reason in self.unreadable.values()),
            "nothing was written",
        ]

    @property
    def sent(self) -> bool:
        """Whether images of all events leave this machine, instead of being captioned here."""
        return not self.images and bool(self.asked)


def errands(
    options: LabelOptions, asking: Asking, labeller: object
) -> list[tuple[Endpoint, Errand]]:
    """Return what endpoints are asked about one video, at most.

    Args:
        options: How many events there are, and how many labels.
        asking: What is asked beside a caption.
        labeller: Who says what happens.
    """
    queries, words = options.queries, asking.instructions
    found: list[tuple[object, Errand]] = []
    events = options.proposals.count * max(queries.samples, 1)
    images = events * pictures(queries.view, endpoint=True)
    sentences, misses = queries.per_video, 0
    if words is None:
        found.append((labeller, Errand(events, images)))
    else:
        letters = len(words.look) + sum(len(getattr(words.parts, p)) for p in words.parts.asked)
        found.append((labeller, Errand(events, images, letters + 200, _LOOK_TOKENS)))
        sentences *= MOST
        misses = queries.per_video if words.parts.nearly else 0
    tokens = _SENTENCE_TOKENS * asking.paraphrases
    found.append((asking.rephraser, Errand(sentences, 0, len(asking.words.rephrase) + 200, tokens)))
    judged, letters = sentences + misses, len(asking.words.verify) + 300
    shown = 2 * JUDGED * judged
    found.append((asking.verifier, Errand(judged, shown, letters, _VERDICT_TOKENS)))
    return [(whom, errand) for whom, errand in found if isinstance(whom, Endpoint)]


def _told(whom: Endpoint, errand: Errand, price: tuple[float, float] | None) -> list[str]:
    """Return what an endpoint would be asked; answers of earlier runs are not looked for."""
    tokens = errand.estimate
    lines = [
        f"at most {errand.requests:,} requests with {errand.images:,} images to {whom.chat}",
        f"about {tokens[0]:,} tokens in ({PICTURE_TOKENS} an image, one for {LETTERS} letters) "
        f"and {tokens[1]:,} out ({errand.tokens} an answer)",
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
    asking: Asking | None = None,
    asked: Sequence[tuple[Endpoint, Errand]] = (),
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
        options: As of `pseudo_label`, like the next one and those after `asked`.
        asking: None where it is not known, as a model that takes part was not loaded.
        asked: What endpoints are asked about one video, see `errands`.
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
    known = begun and (not queries.speaks or (noted is not None and asking is not None))
    settings = label_settings(
        options=options,
        captions=CaptionOptions() if endpoint is None else endpoint.options,
        seed=seed,
        sampling=sampling,
        backbone=backbone.fingerprint,
        captioner=noted,
        tagger=tagger.fingerprint if tagger else None,
        asking=asking,
    )
    some_cached = any(Path(cache).expanduser().glob("*.safetensors"))
    events = options.proposals.count if queries.speaks else 0
    shown = 0 if endpoint is not None else pictures(queries.view)
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
    left = readable - finished
    return Forecast(
        videos=readable,
        seconds=seconds,
        finished=finished,
        cached=cached,
        frames=frames,
        images=left * events * shown,
        samples=queries.samples if queries.speaks else 0,
        unreadable=unreadable,
        asked=[(whom, errand.times(left)) for whom, errand in asked] if queries.speaks else (),
    )
