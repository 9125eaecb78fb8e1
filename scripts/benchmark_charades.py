"""Charades-STA on real frames: training-free, without labels, and with those of the other fold.

    python scripts/benchmark_charades.py --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/charades

FEATURES is what `zsvg tune --features` takes, rows spread evenly over each video, or a .safetensors
file of int8 codes with `mean` and `scale` (codes * scale + mean), in the joint space of MODEL's
sentences. Queries of videos without features are left out.

Groups of rows: "alignment" (sentences aligned on labels by a fixed amount, no head), "forms"
(labels without an annotator: of frames, of words, of words with half of the moments stitched into
other videos, of --sentences, and of words and sentences together, stitched so), "controls" (labels
of other videos), "weak" and "glance" (true sentences without times, or with an instant each), and
with true labels "heads" and "budgets", and "beside" a few of them with labels of --sentences;
"prompts" are tokens in the text tower, learned from labels of --prompts-from. The videos are cut
into two folds by name. What is chosen or learned is so on one fold and reported on the other:
settings of the cross-fit row, the best fixed window, and heads. Rows with true labels or sentences
("cross-fit on test videos") learn from the queries of the other fold, those without from its frames
alone. Windows are cut to the video.
Trivial rows stand beside: windows of the training-free lengths elsewhere, sentences of other
videos, answers of other videos; and beside the rows of "forms" (but stitched ones) two controls:
their models asked for sentences of other videos, and their heads asked so while similarity is of
the right sentence. Intervals are paired bootstraps over videos, of the mean over seeds.

One small file for each run lies in OUT/runs and is not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from film import CONTROLS, STITCHED, Bench, Labels, Run, arguments
from footing import elsewhere, fold

from zsvg.cli.terminal import progress, say, table
from zsvg.evaluation import baselines
from zsvg.evaluation.intervals import gain
from zsvg.files import write_json
from zsvg.grounding.grounder import Grounder
from zsvg.label.matching import Phrases
from zsvg.records import Prediction
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.scorers.tfvtg import Tfvtg

FREE = "training-free"
MIXED = ("stitched", "together")
FORMS = ("features", "vocabulary", "stitched", "retrieved", "together")
HEADS = ("regression", "map", "span", "set", "windows", "embedding", "pointing")
PROMPTS = {"coop": "regression", "cocoop": "regression", "ppt": "pointing"}
PUBLISHED = (
    "Published, CLIP's own text tower: SPL 60.7 / 40.7 / 19.6 / 40.5 (adapts on 5,338 train "
    "videos); see each paper for what it was chosen on."
)


def settings() -> list[ScorerOptions]:
    """Return the grid of the cross-fit training-free row."""
    runs = [
        ScorerOptions(kind="threshold_runs", smooth=smooth, octaves=octaves, bias=bias)
        for smooth, octaves, bias in product((1.5, 2.0, 3.0), (1, 2, 3), (0.25, 0.5, 0.75))
    ]
    return runs + [
        ScorerOptions(kind="max_sum", smooth=smooth, bias=bias)
        for smooth, bias in product((2.0, 2.5, 3.0, 4.0), (0.2, 0.25, 0.3, 0.4))
    ]


def cross_fit(bench: Bench) -> list[Prediction]:
    """Answer each fold by the setting whose mIoU is best on the other one."""
    grounder, grid = Grounder(bench.backbone), settings()
    seen = {vid: grounder.encode(bench.files[vid]) for vid in {r.vid for r in bench.records}}
    curves = [grounder.ground(seen[r.vid], r.query, top_k=1).curve for r in bench.records]
    tried, sides = [], np.array([fold(record.vid) for record in bench.records])
    with progress("settings", len(grid)) as advance:
        for done, options in enumerate(grid, 1):
            answers = []
            for record, curve in zip(bench.records, curves, strict=True):
                frames = seen[record.vid].frames
                spans, scores = find_moments(curve, frames.edges, options, frames.features)
                windows = ((*spans[0].tolist(), float(scores[0])),)
                answers.append(
                    Prediction(qid=record.qid, query=record.query, vid=record.vid,
                               pred_relevant_windows=windows)
                )  # fmt: skip
            tried.append((answers, np.array(bench.overlaps(answers))))
            advance(done)
    best = [int(np.argmax([o[sides == side].mean() for _, o in tried])) for side in (0, 1)]
    for side in (0, 1):
        say(f"fold {side} is answered by what is best on the other: {grid[best[1 - side]]}")
    return [
        answer
        for side in (0, 1)
        for record, answer in zip(bench.records, tried[best[1 - side]][0], strict=True)
        if fold(record.vid) == side
    ]


def recipe_of(head: str) -> str:
    """Return what a head is tuned by where no prompts are asked for; one needs its own."""
    return "ppt" if head == "pointing" else "head-only"


def rows(
    bench: Bench, groups: Sequence[str], prompts_from: Sequence[str]
) -> dict[str, list[list[float]]]:
    """Make what is missing; return name -> overlaps by seed."""
    free = bench.ask(bench.records, Grounder(bench.backbone))
    best_window = [
        answer
        for side in (0, 1)
        for answer in baselines.fixed_window(
            bench.side(1 - side), *baselines.fit_fixed_window(bench.side(side))
        )
    ]
    made = {
        "whole video": [bench.overlaps(baselines.whole_video(bench.records))],
        "best fixed window of the other fold": [bench.overlaps(best_window)],
        "random": [
            bench.overlaps(baselines.random_windows(bench.records, seed)) for seed in bench.seeds
        ],
        "the same lengths elsewhere": [
            bench.overlaps(elsewhere(free, bench.records, seed)) for seed in bench.seeds
        ],
        "answers of other videos": [
            bench.overlaps(baselines.exchanged(free, bench.records, seed=seed))
            for seed in bench.seeds
        ],
        "sentences of other videos": [
            bench.run("sentences of other videos", bench.foreign, seed) for seed in bench.seeds
        ],
        FREE: [bench.overlaps(free)],
        # Its mask is for cosines of BLIP-2; those of CLIP are lower.
        **{
            f"training-free, TFVTG's scorer{mask}": [
                bench.overlaps(bench.ask(bench.records, Grounder(bench.backbone, scorer=scorer)))
            ]
            for mask, scorer in (("", Tfvtg()), (", no mask", Tfvtg(least=-1.0)))
        },
    }
    made["training-free, settings cross-fit"] = [
        bench.run("training-free cross-fit", lambda _: cross_fit(bench), 0)
    ]
    wanted: list[tuple[list[str], Run]] = []

    def want(
        row: str,
        recipe: str,
        head: str,
        labels: Labels,
        controls: bool = False,
        **training: Any,
    ) -> None:
        row = f"{row}, {recipe} + {head}" + (f" x {bench.members}" if bench.members > 1 else "")
        named = [row, *(f"{row}, {what}" for what in CONTROLS[:2] if controls)]
        wanted.append(
            (named, bench.tuned(row, recipe, head, labels, controls=controls, **training))
        )

    words = bench.found(bench.words)
    forms = {"features": bench.wordless, "vocabulary": words, "stitched": words}
    if bench.sentences:
        sentences = bench.found(Phrases(sentences=bench.sentences))
        forms["retrieved"] = sentences
        forms["together"] = bench.together(words, sentences)
    told: dict[str, Labels] = {"full": lambda n, _: bench.side(n), **forms} | {
        f"labels of {count} videos": partial(bench.few, count) for count in bench.budgets
    }
    for count in bench.budgets if bench.sentences else ():
        told[f"retrieved, and labels of {count} videos"] = bench.beside(forms["retrieved"], count)
    if strange := set(prompts_from) - told.keys():
        raise SystemExit(f"--prompts-from: no {sorted(strange)}; there are {list(told)}")
    if "forms" in groups:
        for form, head in product([form for form in bench.forms if form in forms], bench.heads):
            if (form, head) == ("features", "pointing"):
                continue  # there would be no text to point from
            rate = STITCHED * (form in MIXED)
            want(form, recipe_of(head), head, forms[form], form not in MIXED, stitch_rate=rate)
    if "controls" in groups:
        for form in sorted({"vocabulary", "retrieved"} & forms.keys() & set(bench.forms)):
            row, labels = f"{form} of other videos", bench.moved(forms[form])
            want(row, "head-only", "regression", labels)
    if "alignment" in groups:
        for source in sorted({"full", "vocabulary", "retrieved"} & told.keys()):
            row = f"{source}, aligned sentences alone"
            wanted.append(([row, f"{row}, {CONTROLS[2]}"], bench.aligned(told[source], row)))
    if "weak" in groups:
        row = "weak, aligned sentences alone"
        wanted.append(([row, f"{row}, {CONTROLS[2]}"], bench.aligned(told["full"], row, "weak")))
    for level in ("weak", "glance"):
        for head in bench.heads if level in groups else ():
            want(level, recipe_of(head), head, told["full"], supervision=level)
    if "heads" in groups:
        for head in bench.heads:
            want("full", recipe_of(head), head, told["full"])
    if "prompts" in groups:
        for source, recipe in product(prompts_from, PROMPTS):
            rate = STITCHED * (source in MIXED)
            want(source, recipe, PROMPTS[recipe], told[source], stitch_rate=rate)
    if "budgets" in groups:
        for count in bench.budgets:
            row = f"labels of {count} videos"
            want(row, "head-only", "regression", told[row])
    if "beside" in groups:
        for row in (name for name in told if name.startswith("retrieved, and")):
            want(row, "head-only", "regression", told[row])
    with progress("runs", len(wanted) * len(bench.seeds)) as advance:
        for done, ((named, make), seed) in enumerate(product(wanted, bench.seeds), 1):
            for row, overlaps in zip(named, bench.runs(named, make, seed), strict=True):
                made.setdefault(row, []).append(overlaps)
            advance(done)
    return made


def numbers(overlaps: np.ndarray) -> list[float]:
    """Return R1 at .3, .5 and .7, and mIoU, in percent."""
    return [100 * float((overlaps >= x).mean()) for x in (0.3, 0.5, 0.7)] + [
        100 * float(overlaps.mean())
    ]


def report(made: Mapping[str, list[list[float]]], bench: Bench) -> None:
    """Print the table, and write it as JSON."""
    vids = [record.vid for record in bench.records]
    base = 100 * np.mean(made[FREE], axis=0)
    lines, kept = [], {}
    for name, runs in made.items():
        by_seed = np.array([numbers(np.array(run)) for run in runs])
        mean = by_seed.mean(axis=0)
        spread = f" ± {by_seed[:, 3].std():.1f}" if len(runs) > 1 else ""
        more = gain(100 * np.mean(runs, axis=0), base, vids)
        shown = "" if name == FREE else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*more)
        cells = [f"{value:.1f}" for value in mean]
        lines.append((name, str(len(runs)), *cells[:3], cells[3] + spread, shown))
        kept[name] = {"numbers": mean.tolist(), "seeds": len(runs), "gain in mIoU": more}
    header = ("", "seeds", "R1@.3", "R1@.5", "R1@.7", "mIoU", f"mIoU - {FREE}")
    title = f"{len(vids)} queries of {len(set(vids))} videos; {bench.backbone.name}"
    table(header, lines, title=title)
    say(PUBLISHED)
    write_json(bench.out / "results.json", kept)
    say(f"wrote {bench.out / 'results.json'}")


def main() -> None:
    """Make the rows that are missing and print all."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--heads", nargs="*", choices=HEADS, default=HEADS)
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    parser.add_argument("--budgets", type=int, nargs="*", default=[10, 30, 100], help="videos")
    parser.add_argument(
        "--prompts-from", nargs="*", default=["full"], help='"full", a form or "labels of N videos"'
    )
    groups = (
        "alignment", "forms", "controls", "weak", "glance", "heads", "prompts", "budgets", "beside"
    )  # fmt: skip
    parser.add_argument("--groups", nargs="*", choices=groups, default=groups)
    args = parser.parse_args()
    bench = Bench(args)
    report(rows(bench, args.groups, args.prompts_from), bench)


if __name__ == "__main__":
    main()
