"""Which video comes first when a folder is asked: the old order beside the new one.

    OMP_NUM_THREADS=1 python scripts/benchmark_ranking.py --out runs --seeds 0 1 2
    OMP_NUM_THREADS=1 python scripts/benchmark_ranking.py --out runs --domains paper --seeds 0 1 2

Every domain and seed has 100 test videos. They are one folder of 100, three of 30 (ten are left
over) and sixteen of 6 (four are), and the sentences of a folder's own videos are asked of it: six
of each video. In the second kind of folder half of the videos are of other domains, in turn of all
others but `studio`; their own sentences are not asked. Right is every video in whose script the
sentence is true (`microworld_meaning`), whatever domain it is of.

Models are the bare `micro` (training-free), and the same tuned as `zsvg quickstart` tunes
`zero-labels`, on 90 unlabelled videos of the domain. Orders are by the score of the best moment,
which is how it was, by the peak of the similarity curve, by how well a head's best answer fits
(`cosine`), by `Grounding.presence`, by `Grounding.fit`, which is how it is and has no part of
`presence`, by the mean of both (`both`), and at random. The first command runs on the development
domain, where half of `fit` was chosen (see `zsvg.grounding.ranking.fit`); the second on one that
nothing was chosen on.
Gains have paired 95 % bootstrap intervals; drawn are videos, each with all its sentences.

Each domain, seed and model leaves one small file, OUT/DOMAIN-SEED/ranks MODEL.json, and is skipped
when that is there. About ten minutes of one processor for a domain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from microworld_meaning import holds, read
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates
from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli.terminal import table
from zsvg.experiments.quickstart import LABELS
from zsvg.files import write_json
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.ranking import fit
from zsvg.label.run import pseudo_label
from zsvg.microworld.domains import DEVELOPMENT, LOOKS
from zsvg.microworld.script import Scene
from zsvg.microworld.world import plan_video, write_world
from zsvg.records import Annotation
from zsvg.scorers.find import find_moments
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

SIZES = (6, 30, 100)
KINDS = ("in-domain", "mixed")
MODELS = ("training-free", "tuned")
ORDERS = ("random", "score", "peak", "cosine", "presence", "both", "fit")
MEASURES = ("R@1", "R@5", "MRR")
POOL, UNLABELLED, ASKED = 100, 90, 6
_AT_ONCE = 32  # sentences in one call of a head
_DRAWS = 2000

Values = NDArray[np.float64]


def pool(domain: str, seed: int, count: int) -> list[tuple[Scene, list[Annotation]]]:
    """Return the scripts of test videos, with their sentences."""
    return [plan_video(domain, "test", seed, index) for index in range(count)]


def videos_of(out: Path, domain: str, seed: int, split: str, count: int) -> dict[str, Path]:
    """Return vid -> file of the first videos of a split, rendering those that are not there."""
    folder = out / f"{domain}-{seed}" / split
    write_world(
        folder, domain=domain, videos=count, split=split, seed=seed, annotations=False
    )  # fmt: skip
    names = [plan_video(domain, split, seed, index)[0].vid for index in range(count)]
    found = find_videos(folder / "videos")
    return {vid: found[vid] for vid in names}


def foreign(domain: str, seed: int, count: int) -> list[tuple[str, int]]:
    """Return (domain, index) of videos that are not of a domain, of all others in turn."""
    others = [name for name in LOOKS if name not in (domain, "studio")]
    return [(others[i % len(others)], i // len(others)) for i in range(count)]


def folders(kind: str, size: int, own: int, strange: int) -> list[tuple[list[int], list[int]]]:
    """Return (own, all) videos of every folder; foreign ones are numbered after the own."""
    mine = size if kind == "in-domain" else size // 2
    made = []
    for number in range(own // mine):
        inside = list(range(number * mine, (number + 1) * mine))
        others = [own + (number * (size - mine) + i) % strange for i in range(size - mine)]
        made.append((inside, inside + others))
    return made


def tuned(out: Path, domain: str, seed: int, backbone: ClipBackbone) -> Grounder:
    """Return the model that quickstart would make of unlabelled videos, made once."""
    home = out / f"{domain}-{seed}"
    model, cache = home / "zero-labels", out / "features"
    if not model.exists():
        clips = videos_of(out, domain, seed, "train", UNLABELLED)
        captioner = load_captioner("micro")
        report = pseudo_label(clips, backbone, captioner, options=LABELS, seed=seed, cache=cache)
        options, recipe = TuneOptions(seed=seed), load_recipe("coop")
        tune(report.labels, clips, backbone, model, recipe=recipe, options=options, cache=cache)
    return load(model, backbone=backbone)


def ask(grounder: Grounder, video: EncodedVideo, texts: TextStates) -> dict[str, Values]:
    """Return order -> (Q,) what sorts a video by it: what `Grounder.ground` says, all at once."""
    features, edges = video.frames.features, video.frames.edges
    sentences = texts.pooled.cpu().numpy()
    curves = features @ sentences.T
    columns = [np.ascontiguousarray(curve) for curve in curves.T]
    peak = curves.max(axis=0).astype(np.float64)
    fits = np.array([fit(features, sentence, grounder.usual) for sentence in sentences])
    if grounder.head is None:
        scorer = grounder.scorer_for(video.frames.fps)
        best = [find_moments(c, edges, scorer, features)[1][0] for c in columns]
        return {"score": np.array(best), "peak": peak, "fit": fits}
    score, cosine = [], []
    middles = torch.from_numpy((edges[:-1] + edges[1:]) / 2 / edges[-1]).float()
    for first in range(0, len(texts.pooled), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        pooled = texts.pooled[some]
        centres = middles.to(pooled.device).expand(len(pooled), -1)
        with torch.no_grad():
            output = grounder.head(
                frames=torch.from_numpy(features).to(pooled.device).expand(len(pooled), -1, -1),
                frame_mask=torch.ones_like(centres, dtype=torch.bool),
                centres=centres,
                tokens=texts.tokens[some],
                token_mask=texts.mask[some],
                pooled=pooled,
                points=None if texts.points is None else texts.points[some],
            )
        score += output.scores[:, 0].tolist()
        cosine += output.presence.tolist()
    best = np.array(cosine)
    order = (fits + best) / 2
    return {
        "score": np.array(score),
        "peak": peak,
        "cosine": best,
        "fit": order,
    }


def together(states: Sequence[TextStates]) -> TextStates:
    """Return texts that were encoded one by one as one batch."""
    points = [s.points for s in states if s.points is not None]
    return TextStates(
        pooled=torch.cat([s.pooled for s in states]),
        tokens=torch.cat([s.tokens for s in states]),
        mask=torch.cat([s.mask for s in states]),
        points=torch.cat(points) if points else None,
    )


def rank(values: Values, right: NDArray[np.bool_]) -> int:
    """Return the place, from 1, of the first right video; those that tie with it come before."""
    best = values[right].max()
    return 1 + int((values[~right] >= best).sum())


def one_run(out: Path, domain: str, seed: int, model: str, backbone: ClipBackbone) -> Any:
    """Ask everything of everything; return setting -> order -> ranks, by sentence."""
    pairs = pool(domain, seed, POOL)
    strange = foreign(domain, seed, max(SIZES) // 2)
    scenes = [scene for scene, _ in pairs]
    files = list(videos_of(out, domain, seed, "test", POOL).values())
    for name, index in strange:
        scene, _ = plan_video(name, "test", seed, index)
        scenes.append(scene)
        files.append(videos_of(out, name, seed, "test", index + 1)[scene.vid])
    rng = np.random.default_rng([seed, 19])
    asked = []  # (sentence, the video it was written about)
    for own, (_, records) in enumerate(pairs):
        chosen = sorted(rng.permutation(len(records))[:ASKED].tolist())
        asked += [(records[i].query, own) for i in chosen]
    true = np.array([[holds(m, s) for s in scenes] for m in (read(q) for q, _ in asked)])

    grounder = Grounder(backbone) if model == "training-free" else tuned(
        out, domain, seed, backbone
    )  # fmt: skip
    texts = together([grounder.encode_query(query) for query, _ in asked])
    cache = out / "features"
    videos = [grounder.encode(file, cache=cache) for file in files]
    said = [ask(grounder, video, texts) for video in videos]
    likely = None
    if grounder.judge is not None:
        likely = np.array(
            [[grounder.ground(video, q).presence for video in videos] for q, _ in asked]
        )
    detach_adapters(backbone)
    values = {order: np.stack([one[order] for one in said], axis=1) for order in said[0]}
    if likely is not None:
        values |= {"presence": likely, "both": (values["fit"] + likely) / 2}
    values["random"] = rng.random(true.shape)

    ranks: dict[str, dict[str, list[int]]] = {}
    of: dict[str, list[int]] = {}
    for kind, size in product(KINDS, SIZES):
        name = f"{kind} {size}"
        of[name], ranks[name] = [], {order: [] for order in values}
        for own, inside in folders(kind, size, POOL, len(strange)):
            for number in (n for n, (_, video) in enumerate(asked) if video in own):
                of[name].append(asked[number][1])
                for order, value in values.items():
                    place = rank(value[number, inside], true[number, inside])
                    ranks[name][order].append(place)
    return {"domain": domain, "seed": seed, "model": model, "videos": of, "ranks": ranks}


def measures(ranks: Sequence[int]) -> NDArray[np.float64]:
    """Return (Q, 3): whether the first video is right, one of the first five, and 1 / rank."""
    places = np.asarray(ranks, dtype=np.float64)
    return np.stack((places == 1, places <= 5, 1 / places), axis=1)


def interval(gains: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (2, M), the 95 % bootstrap interval of the mean of rows (Q, M); groups are drawn."""
    _, index = np.unique(groups, return_inverse=True)
    sums = np.zeros((index.max() + 1, gains.shape[1]))
    np.add.at(sums, index, gains)
    counts = np.bincount(index)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_DRAWS, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = np.percentile(means, (2.5, 97.5), axis=0)
    return found


def report(runs: Sequence[Mapping[str, Any]]) -> None:
    """Print R@1, R@5 and MRR of the video by folder, model and order, percent."""
    rows: list[list[tuple[str, ...]]] = [[] for _ in MEASURES]
    for kind, size, model in product(KINDS, SIZES, MODELS):
        own = [run for run in runs if run["model"] == model]
        if not own:
            continue
        name = f"{kind} {size}"
        found = {
            order: measures([place for run in own for place in run["ranks"][name][order]])
            for order in own[0]["ranks"][name]
        }
        # A video is drawn with its sentences; those of two domains or seeds are not the same.
        groups = np.array(
            [POOL * i + video for i, run in enumerate(own) for video in run["videos"][name]]
        )
        won = []
        pairs = [("fit", "score"), ("fit", "peak"), ("presence", "fit"), ("both", "fit")]
        for one, other in pairs:
            gains = 100 * (found[one] - found[other]) if one in found else np.zeros((1, 3))
            within = interval(gains, groups) if one in found else np.zeros((2, 3))
            won.append((gains.mean(axis=0), *within))
        for i, table_rows in enumerate(rows):
            means = [f"{100 * found[o][:, i].mean():.1f}" if o in found else "-" for o in ORDERS]
            cells = [f"{mean[i]:+.1f} [{low[i]:+.1f}, {high[i]:+.1f}]" for mean, low, high in won]
            table_rows.append((name, model, f"{len(groups)}", *means, *cells))
    for measure, table_rows in zip(MEASURES, rows, strict=True):
        gains = ("fit - score", "fit - peak", "presence - fit", "both - fit")
        header = ("videos", "model", "sentences", *ORDERS, *gains)
        table(header, table_rows, title=f"{measure} of the video, by")


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=[DEVELOPMENT])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    args = parser.parse_args()
    backbone = load_backbone("micro")
    runs = []
    for domain, seed, model in product(args.domains, args.seeds, args.models):
        file = args.out / f"{domain}-{seed}" / f"ranks {model}.json"
        if not file.exists():
            write_json(file, one_run(args.out, domain, seed, model, backbone))
        runs.append(json.loads(file.read_text(encoding="utf-8")))
    report(runs)


if __name__ == "__main__":
    main()
