"""A library on real frames: what the first step of a search loses, and beside it simpler searches.

    python scripts/benchmark_library.py --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/library

FEATURES is what `scripts/benchmark_charades.py` takes. All its videos are one library, and every
query is asked of all of them. Rows:

* exhaustive: every video is ranked by its fit, and answers as `zsvg ground` has it;
* library: `Library.answers`, so candidates come from the engine first;
* kept: of the hits of the row before it, as a share;
* exchanged queries: the answers of the library to the sentence of another video;
* mean-pooled frames: videos ranked by the cosine of sentence and mean frame, as CLIP4Clip's
  parameter-free row; with DSL: each cosine times its softmax over all queries (CAMoE), which needs
  all queries at once, and so is no search;
* chance;
* with --embedding, the head `embedding`: two models are tuned with the true labels of one fold of
  the videos each ("cross-fit on test videos"; OUT/embedding-0 and -1, made unless they are there),
  and answer the queries of the other. A video is as near as its nearest span; "and fit" is the mean
  of that cosine and the fit, the order of a tuned `zsvg ground`.

Columns are R@n of the video (`prvr`) and R@n at IoU .5 and .7 of moments (`tvr`). Moments stand in
the order of `zsvg search`: the best one of each video, in order of fit, then the second ones. Only
videos above the right one decide where its first moment stands, so of rows without candidates only
the right video is asked for its moments.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from film import features_of
from footing import fold
from numpy.typing import NDArray

import zsvg
from zsvg import FeatureFiles, Library
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation.protocols.by_name import cut_to_video, protocol
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.ranking import centred, distinct
from zsvg.library.candidates import count, direction
from zsvg.library.hits import first, seen
from zsvg.library.hits import records as records_of
from zsvg.library.rows import unpacked
from zsvg.records import Annotation, Prediction

MOST = 100  # moments in a list
TEMPERATURE = 100.0  # of CLIP's logits, in DSL too
COLUMNS = [
    *(f"R@{n}" for n in (1, 5, 10, 100)),
    *(f"R{n}@{iou}" for n in (1, 5, 10, 100) for iou in (0.5, 0.7)),
]

Matrix = NDArray[np.float64]


def similarities(library: Library, records: Sequence[Annotation]) -> tuple[Matrix, Matrix]:
    """Return (Q, V) fit, and cosine with the mean frame, of all queries and videos."""
    asked = np.stack([direction(library.grounder, record.query) for record in records])
    grounder = library.grounder
    sentences = np.stack(
        [grounder.encode_query(record.query).pooled[0].cpu().numpy() for record in records]
    )
    fits, means = [], []
    for frames in stored(library).values():
        fits.append((centred(frames.features) @ asked.T).max(axis=0))
        mean = frames.features.mean(axis=0)
        means.append(sentences @ (mean / np.linalg.norm(mean)))
    return np.stack(fits, axis=1).astype(np.float64), np.stack(means, axis=1).astype(np.float64)


def stored(library: Library) -> dict[str, FrameFeatures]:
    """Return vid -> features, in the order of the library's videos."""
    rows = library.tables.features([video.content for video in library.videos()])
    return {video.vid: unpacked(rows[video.content], video.vid) for video in library.videos()}


def dual_softmax(values: Matrix) -> Matrix:
    """Return similarities (Q, V) times their softmax over the queries."""
    logits = TEMPERATURE * values
    weights = np.exp(logits - logits.max(axis=0))
    return values * weights / weights.sum(axis=0)


def tuned(
    library: Library, records: Sequence[Annotation], files: FeatureFiles, out: Path
) -> list[Grounder]:
    """Return the models of the head `embedding` that learned from fold 0, and from fold 1."""
    backbone, models = library.grounder.backbone, []
    for side in (0, 1):
        folder = out / f"embedding-{side}"
        if not folder.exists():
            recipe = zsvg.load_recipe("head-only").with_head("embedding")
            labels = [record for record in records if fold(record.vid) == side]
            zsvg.tune(labels, files, backbone, folder, recipe=recipe)
        models.append(zsvg.load(folder, backbone=backbone))
    return models


@torch.no_grad()
def nearest(
    library: Library, records: Sequence[Annotation], models: Sequence[Grounder]
) -> tuple[Matrix, list[Prediction]]:
    """Return (Q, V) cosines of queries and nearest spans, and what right videos answer."""
    sides = np.array([fold(record.vid) for record in records])
    found, answers = np.empty((len(records), len(library.videos()))), {}
    for side, model in enumerate(models):
        rows = np.flatnonzero(sides != side)
        asked = [records[row] for row in rows]
        pooled = torch.cat([model.encode_query(record.query).pooled for record in asked])
        sentences = model.head.embed_sentence(pooled)
        for column, frames in enumerate(stored(library).values()):
            clips = torch.from_numpy(frames.features)[None]
            centres = torch.from_numpy(frames.centres / frames.duration)[None]
            real = torch.ones(centres.shape, dtype=torch.bool)
            spans = model.head.embed_video(clips, real, centres)[0]
            found[rows, column] = (sentences @ spans.T).amax(1).numpy()
        answers |= {answer.qid: answer for answer in own_moments(library, asked, model)}
    return found, [answers[record.qid] for record in records]


def by_rank(
    library: Library, records: Sequence[Annotation], values: Matrix, own: Sequence[Prediction]
) -> list[Prediction]:
    """Return lists in which every video but the right one has one moment that hits nothing."""
    vids = [video.vid for video in library.videos()]
    found = []
    for record, row, answer in zip(records, values, own, strict=True):
        for place in np.argsort(-row, kind="stable")[:MOST]:
            windows = (answer.pred_relevant_windows or ())[:1]
            if vids[place] != record.vid:
                windows = ((0.0, 1e-6, 0.0),)
            found.append(replace(answer, vid=vids[place], pred_relevant_windows=windows))
    return found


def own_moments(
    library: Library, records: Sequence[Annotation], grounder: Grounder
) -> list[Prediction]:
    """Return what the right video of each query answers."""
    features, answers = stored(library), []
    for record in records:
        video = EncodedVideo(vid=record.vid, frames=features[record.vid], encoder=grounder.encoder)
        said = grounder.ground(video, record.query)
        answers.append(distinct(said.prediction(record.qid, record.vid, fit=said.fit)))
    return answers


def searched(library: Library, records: Sequence[Annotation]) -> list[list[Prediction]]:
    """Return what the library answers to each query: one record for each moment, in order."""
    lists, seconds = [], []
    with progress("searching", len(records)) as advance:
        for done, record in enumerate(records, 1):
            started = time.monotonic()
            answers = library.answers(record.query, group=False)
            seconds.append(time.monotonic() - started)
            few = first(seen(answers, 3), MOST, 3)
            lists.append([replace(one, qid=record.qid) for hit in few for one in records_of([hit])])
            advance(done)
    middle, late = np.percentile(seconds, (50, 95))
    say(f"a search took {1000 * middle:.0f} ms (p50), {1000 * late:.0f} ms (p95)")
    return lists


def exchanged(
    records: Sequence[Annotation], lists: Sequence[Sequence[Prediction]]
) -> list[Prediction]:
    """Return the answers to the sentence of another video in place of each query's own."""
    half, found = len(records) // 2, []
    for number, record in enumerate(records):
        other = (number + half) % len(records)
        while records[other].vid == record.vid:
            other = (other + 1) % len(records)
        found += [replace(answer, qid=record.qid) for answer in lists[other]]
    return found


def measures(records: Sequence[Annotation], answers: Sequence[Prediction]) -> dict[str, float]:
    """Return all columns, percent."""
    numbers = {
        **protocol("prvr").score(answers, records), **protocol("tvr").score(answers, records)
    }  # fmt: skip
    return {name: 100 * numbers[name] for name in COLUMNS}


def main() -> None:
    """Make the library, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("features", "annotations", "durations", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--every", type=int, default=1, help="ask each n-th query alone")
    parser.add_argument("--embedding", action="store_true", help="tune that head, and ask it too")
    args = parser.parse_args()

    found = convert("charades-sta", args.annotations, durations=args.durations).records
    files = FeatureFiles(features_of(args.features, args.out))
    records = [record for record in cut_to_video(found) if record.vid in files]
    files = replace(files, durations={record.vid: record.duration for record in records})
    library = Library.open(args.out / "library", args.model)
    library.add(files)
    every, records = records, records[:: args.every]
    say(f"{len(records)} queries, {len(files)} videos, {count(len(files))} candidates at most")

    fits, means = similarities(library, records)
    own, lists = own_moments(library, records, library.grounder), searched(library, records)
    chance = np.random.default_rng(0).random(fits.shape)
    rows = {
        "exhaustive": by_rank(library, records, fits, own),
        "library": [answer for some in lists for answer in some],
        "exchanged queries": exchanged(records, lists),
        "mean-pooled frames": by_rank(library, records, means, own),
        "mean-pooled frames, DSL": by_rank(library, records, dual_softmax(means), own),
        "chance": by_rank(library, records, chance, own),
    }
    if args.embedding:
        cosines, answers = nearest(library, records, tuned(library, every, files, args.out))
        row = "embedding, cross-fit on test videos"
        rows[row] = by_rank(library, records, cosines, answers)
        rows[f"{row}, and fit"] = by_rank(library, records, (cosines + fits) / 2, answers)
    numbers = {name: measures(records, answers) for name, answers in rows.items()}
    kept = {name: 100 * numbers["library"][name] / max(numbers["exhaustive"][name], 1e-9)
            for name in COLUMNS}  # fmt: skip
    shown = [(name, *(f"{values[c]:.1f}" for c in COLUMNS)) for name, values in numbers.items()]
    shown.insert(2, ("kept", *(f"{kept[c]:.1f}" for c in COLUMNS)))
    table(("percent", *COLUMNS), shown)


if __name__ == "__main__":
    main()
