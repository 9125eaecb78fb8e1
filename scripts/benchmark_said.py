"""How well sentences are compared: two about one moment of Charades-STA, and two about any moments.

    python scripts/benchmark_said.py --annotations charades_sta_test.txt \
        --durations Charades_v1_test.csv.gz --model MODEL --sentence-model all-MiniLM-L6-v2/

Two different sentences are about one moment if their windows in one video have an IoU of .9, and
about any moments if drawn from two videos. "Pass" is what a search by meaning takes
(`zsvg.library.sentences`); "pass, as few wrong" is the same of one threshold for all sentences that
lets as many of the others pass as the first row's way does: it tells encoders apart, and cannot be
known without labels. R@10 asks all other sentences of the split by one, for the one about the same
moment that comes first.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from itertools import permutations
from pathlib import Path

import numpy as np

from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import table
from zsvg.datasets import convert
from zsvg.library.sentences import Sentences, load_sentences
from zsvg.moments import iou
from zsvg.records import Annotation

SAME, PAIRS = 0.9, 20_000


def main() -> None:
    """Compare the pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("annotations", "durations"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", required=True, help="backbone whose text tower is measured")
    parser.add_argument("--sentence-model", action="append", default=[], metavar="MODEL")
    args = parser.parse_args()

    records = convert("charades-sta", args.annotations, durations=args.durations).records
    texts = [re.sub(r"[^a-z ]", "", record.query.lower()).strip() for record in records]
    same = [pair for pair in of_one_moment(records) if texts[pair[0]] != texts[pair[1]]]
    drawn = np.random.default_rng(0).integers(0, len(records), (PAIRS, 2)).tolist()
    any_two = [
        (a, b) for a, b in drawn if records[a].vid != records[b].vid and texts[a] != texts[b]
    ]
    wanted: dict[int, list[int]] = defaultdict(list)
    for a, b in same:
        wanted[a].append(b)
    encoders = {args.model: Sentences(load_backbone(args.model, "cpu"))}
    encoders |= {name: load_sentences(name, "cpu") for name in args.sentence_model}
    rows, allowed = [], 0.0
    for name, sentences in encoders.items():
        vectors = sentences.encode(texts)
        least = np.array([sentences.least(vector) for vector in vectors])
        (alike, first), (others, left) = (
            (np.einsum("nd,nd->n", vectors[a], vectors[b]), least[a])
            for a, b in (np.array(same).T, np.array(any_two).T)
        )
        wrong = float((others >= left).mean())
        allowed = allowed or wrong
        fixed = (alike >= np.quantile(others, 1 - allowed)).mean()
        found = [
            first_rank(texts, vectors @ vectors[a], texts[a], them) <= 10
            for a, them in wanted.items()
        ]
        shares = (float((alike >= first).mean()), wrong, fixed, np.mean(found))
        rows.append((Path(name).name, *(f"{100 * share:.1f}" for share in shares)))
    table(
        ("percent", "one moment: pass", "any: pass", "one moment: pass, as few wrong", "R@10"),
        rows,
        title=f"{len(same)} pairs about one moment, {len(any_two)} about any",
    )


def of_one_moment(records: list[Annotation]) -> list[tuple[int, int]]:
    """Return the places of two records each, in both orders."""
    videos: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        videos[record.vid].append(place)
    return [
        (a, b)
        for places in videos.values()
        for a, b in permutations(places, 2)
        if iou(records[a].relevant_windows, records[b].relevant_windows).max() >= SAME
    ]


def first_rank(texts: list[str], alike: np.ndarray, asked: str, wanted: list[int]) -> int:
    """Return where the first wanted sentence stands among all with other words, from 1."""
    others = np.array([text != asked for text in texts])
    return 1 + int((alike[others] > alike[wanted].max()).sum())


if __name__ == "__main__":
    main()
