"""From raw videos and a published annotation file to the table, for the `reproduce_*` scripts.

Every row is made once: its file under OUT is kept, and an interrupted run continues.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation.baselines import trivial_answers
from zsvg.evaluation.metrics import as_percent
from zsvg.evaluation.protocols.by_name import protocol
from zsvg.experiments.quickstart import supervised_recipe
from zsvg.files import write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.label.run import pseudo_label
from zsvg.records import (
    Annotation,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

COLUMNS = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return the options that all reproductions share."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of all videos")
    parser.add_argument("--train", type=Path, required=True, help="published training annotations")
    parser.add_argument("--test", type=Path, required=True, help="published test annotations")
    parser.add_argument("--backbone", required=True, help="such as ViT-B-32/laion2b_s34b_b79k")
    parser.add_argument("--captioner", required=True, help="such as Salesforce/blip-...-base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=100, help="true labels of the few-shot row")
    parser.add_argument("--recipe", default="coop")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def reproduce(
    args: argparse.Namespace,
    form: str,
    rules: str,
    *,
    durations: Path | None = None,
) -> None:
    """Make every row and print the table.

    Args:
        args: As `arguments` parses them.
        form: The annotation form, for `zsvg.datasets.convert`.
        rules: The protocol.
        durations: Lengths of the videos, where the form has none.
    """
    videos = find_videos(args.videos)
    # Training takes repaired windows; the test set is scored as it was published.
    train = _present(convert(form, args.train, durations=durations).records, videos, "training")
    published = convert(form, args.test, durations=durations, as_is=True).records
    test = _present(published, videos, "test")
    clips = {vid: videos[vid] for vid in {record.vid for record in train}}
    backbone = load_backbone(args.backbone)
    shots = random.Random(args.seed).sample(train, min(args.shots, len(train)))
    cache = args.out / "features"

    def pseudo() -> list[Annotation]:
        path = args.out / "pseudo.jsonl"
        if not path.exists():
            with progress("pseudo-labelling", len(clips)) as advance:
                report = pseudo_label(
                    clips,
                    backbone,
                    load_captioner(args.captioner),
                    seed=args.seed,
                    cache=cache,
                    work_dir=args.out / "pseudo.parts",
                    on_progress=lambda done, _total, _vid: advance(done),
                )
            write_annotations(path, report.labels)
        return read_annotations(path)

    rows = dict(trivial_answers(test, seed=args.seed))
    levels: dict[str, Callable[[], Sequence[Annotation]] | None] = {
        "training-free": None,
        "language-free, pseudo labels": pseudo,
        f"few-shot, {len(shots)} labels": lambda: shots,
        "full": lambda: train,
    }
    for number, (name, labels) in enumerate(levels.items()):
        path = args.out / "predictions" / f"{number}.jsonl"
        if not path.exists():
            grounder = Grounder(backbone)
            if labels is not None:
                grounder = _tuned(args, f"model-{number}", labels(), clips, backbone, cache,
                                  full=name == "full")  # fmt: skip
            with progress(f"answering: {name}", len(test)) as advance:
                found, failures = predict(grounder, test, videos, cache=cache, on_progress=advance)
            for failure in failures.values():
                say(f"error: {failure}")
            write_predictions(path, found)
        rows[name] = read_predictions(path)
    counted = protocol(rules)
    numbers = {name: counted.score(found, test) for name, found in rows.items()}
    write_json(args.out / "results.json", {"protocol": rules, "rows": numbers})
    table(
        (f"{rules}, {len(test)} queries", *COLUMNS),
        [(name, *(as_percent(row[c]) for c in COLUMNS)) for name, row in numbers.items()],
    )
    say(f"{rules}: {counted.rule}")
    if warning := counted.warning(test):
        say(warning)
    say(f"wrote {args.out / 'results.json'}")


def _present(records: Sequence[Annotation], videos: dict, which: str) -> list[Annotation]:
    """Return the records whose video is there; tell how many are not."""
    found = [record for record in records if record.vid in videos]
    if len(found) < len(records):
        say(f"{which}: {len(records) - len(found)} of {len(records)} queries have no video here")
    if not found:
        raise SystemExit(f"none of the {which} videos is in the folder")
    return found


def _tuned(
    args: argparse.Namespace,
    name: str,
    labels: Sequence[Annotation],
    clips: dict,
    backbone: ClipBackbone,
    cache: Path,
    *,
    full: bool,
) -> Grounder:
    recipe = load_recipe(args.recipe)
    recipe = supervised_recipe(recipe) if full else recipe
    folder = args.out / name
    detach_adapters(backbone)  # the row before is answered
    with progress(f"tuning {name}", recipe.training.steps) as advance:
        tune(
            labels,
            clips,
            backbone,
            folder,
            recipe=recipe,
            options=TuneOptions(seed=args.seed),
            cache=cache,
            on_step=lambda step, _loss: advance(step),
        )
    return load(folder, backbone=backbone)
