"""Zero labels against training-free and supervised on the reported domains, several seeds.

    python scripts/benchmark_microworld.py --seeds 0 1 2 --out runs/benchmark

Each (domain, seed) is one quickstart run in its own folder and is skipped when its results.json is
there. Afterwards the action word of each action query is replaced by another action: a model that
reads verbs should then lose the moment.
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from zsvg.evaluation.metrics import evaluate
from zsvg.files import write_json
from zsvg.microworld.domains import DEVELOPMENT, REPORTED, look_of
from zsvg.microworld.language import ACTION_WORDS, WORDINGS, action_sentence, noun_phrase
from zsvg.microworld.world import plan_video
from zsvg.records import Annotation

MODELS = ("training-free", "zero-labels", "supervised")


@contextmanager
def quiet(name: str, total: int):
    """A stage without a progress bar."""
    yield lambda done: None


def one_run(folder: Path, domain: str, seed: int) -> dict:
    """Return the results of one run, making them when they are missing."""
    from zsvg.experiments.quickstart import run

    if not (folder / "results.json").exists():
        run(folder, domain=domain, seed=seed, stage=quiet)
    return json.loads((folder / "results.json").read_text())


def action_pairs(domain: str, seed: int, videos: int) -> list[tuple[Annotation, Annotation]]:
    """Return an action query per event of the test split, with its true and with another verb.

    Both sentences are worded from scratch in the same way, so that they differ in the verb alone.
    The other verb is one that the same thing does not do in that video.
    """
    wording = WORDINGS[look_of(domain).wording]
    pairs = []
    for index in range(videos):
        scene, annotations = plan_video(domain, "test", seed, index)
        one_each = {a.extra["event"]: a for a in annotations if a.extra["kind"] == "action"}
        for record in one_each.values():
            event = scene.events[record.extra["event"]]
            done = {e.action for e in scene.events if e.thing == event.thing}
            rng = np.random.default_rng([seed, index, record.extra["event"]])
            noun = noun_phrase(rng, event.thing, wording)
            other = str(rng.choice([a for a in ACTION_WORDS if a not in done]))
            state = rng.bit_generator.state
            true = action_sentence(rng, noun, event.action, wording)
            rng.bit_generator.state = state
            false = action_sentence(rng, noun, other, wording)
            pairs.append((replace(record, query=true), replace(record, query=false)))
    return pairs


def swap_scores(folder: Path, domain: str, seed: int, videos: int) -> dict[str, list[float]]:
    """Return mIoU on action queries with the true verb and with another, per model."""
    path = folder / "verbs.json"
    if path.exists():
        return json.loads(path.read_text())
    from zsvg.grounding.load import load
    from zsvg.grounding.prediction import predict
    from zsvg.video.finding import find_videos

    pairs = action_pairs(domain, seed, videos)
    clips = find_videos(folder / "test" / "videos")
    scores = {}
    for name in MODELS:
        grounder = load("micro" if name == "training-free" else folder / name)
        scores[name] = [
            evaluate(predict(grounder, side, clips, cache=folder / "features")[0], side)["mIoU"]
            for side in ([a for a, _ in pairs], [b for _, b in pairs])
        ]
    write_json(path, scores)
    return scores


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--domains", nargs="+", default=list(REPORTED))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs, verbs = {}, {}
    for domain in args.domains:
        for seed in args.seeds:
            folder = args.out / f"{domain}-{seed}"
            runs[domain, seed] = one_run(folder, domain, seed)
            test_videos = runs[domain, seed]["test_videos"]
            verbs[domain, seed] = swap_scores(folder, domain, seed, test_videos)
            done = {k: round(v["mIoU"], 3) for k, v in runs[domain, seed]["methods"].items()}
            print(domain, seed, json.dumps(done), flush=True)
    report(runs, verbs, args)


def spread(values: list[float]) -> str:
    """Return mean and standard deviation in points."""
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=len(values) > 1):.1f}"


def report(runs: dict, verbs: dict, args: argparse.Namespace) -> None:
    """Print Markdown tables: mIoU, recall, kinds, gap, verbs."""
    names = list(next(iter(runs.values()))["methods"])
    print(f"\nmIoU, mean ± standard deviation over seeds {args.seeds}\n")
    print("| method | " + " | ".join(args.domains) + " |\n|---|" + "---|" * len(args.domains))
    for name in names:
        cells = [
            spread([runs[d, s]["methods"][name]["mIoU"] for s in args.seeds]) for d in args.domains
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    gains, gaps = [], []
    for run in runs.values():
        free, ours, full = (run["methods"][m]["mIoU"] for m in MODELS)
        gains.append(ours - free)
        gaps.append((ours - free, full - free))
    share = sum(g for g, _ in gaps) / sum(f for _, f in gaps)
    print(f"\nzero labels - training-free: {spread(gains)} points; gap closed (ratio of means): "
          f"{100 * share:.0f} %\n")  # fmt: skip
    kinds = sorted(next(iter(runs.values()))["methods"]["supervised"]["kinds"])
    print("| mIoU by kind | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    for name in names:
        cells = [
            spread([run["methods"][name]["kinds"][k]["mIoU"] for run in runs.values()])
            for k in kinds
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| action queries | true verb | another verb | difference |\n|---|---|---|---|")
    for name in MODELS:
        true, false = (np.array([v[name][i] for v in verbs.values()]) for i in (0, 1))
        print(f"| {name} | {spread(true)} | {spread(false)} | {spread(true - false)} |")
    write_json(
        args.out / "summary.json",
        {
            "domains": args.domains,
            "seeds": args.seeds,
            "gain": float(np.mean(gains)),
            "gap_closed": float(share),
            "development": DEVELOPMENT,
        },
    )


if __name__ == "__main__":
    main()
