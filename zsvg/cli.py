"""The `zsvg` command: one thin function per stage of the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zsvg.errors import ZsvgError
from zsvg.terminal import progress, say, table

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

app = typer.Typer(
    name="zsvg",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="From a folder of unlabelled videos to a model that finds moments by sentence.",
    epilog="Exit status: 0 done, 1 something failed (named on stderr), 2 wrong usage.",
)

Videos = Annotated[Path, typer.Argument(help="A video, or a folder of videos.")]
Backbone = Annotated[
    str | None,
    typer.Option(help="Frozen CLIP: micro, ARCH/TAG, hf-hub:ORG/NAME or local-dir:PATH."),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Tuned model folder, or a backbone (training-free).")
]
Fps = Annotated[float, typer.Option(help="Frames looked at per second.")]
Framing = Annotated[str, typer.Option(help="How frames become squares: crop, pad or squash.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of frame features [default: $ZSVG_CACHE or ~/.cache].")
]
Truncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use the readable part of damaged videos.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps [default: the best there is].")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]


@app.command()
def microworld(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    domain: Annotated[str, typer.Option(help="studio, chalk, paper, night or fabric.")],
    videos: Annotated[int, typer.Option(help="How many videos.")] = 10,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    seed: Seed = 0,
    unlabelled: Annotated[bool, typer.Option(help="Write no annotations.")] = False,
) -> None:
    """Render a small labelled world of real mp4 files to play and measure with.

    Example: zsvg microworld world/ --domain chalk --videos 10 --split test
    """
    from zsvg.microworld.world import write_world

    with progress("rendering", videos) as advance:
        write_world(
            out,
            domain=domain,
            videos=videos,
            split=split,
            seed=seed,
            annotations=not unlabelled,
            workers=os.cpu_count() or 1,
            on_progress=lambda done, _: advance(done),
        )
    say(f"wrote {videos} videos to {out / 'videos'}")


@app.command()
def features(
    videos: Videos,
    backbone: Backbone = None,
    fps: Fps = 2.0,
    framing: Framing = "crop",
    cache: Cache = None,
    allow_truncated: Truncated = False,
    device: Device = None,
) -> None:
    """Encode the frames of videos once and keep the features.

    Example: zsvg features videos/ --backbone ViT-B-32/laion2b_s34b_b79k
    """
    from zsvg.backbones.clip import load_backbone
    from zsvg.features import default_cache, extract
    from zsvg.video import find_videos

    found = find_videos(videos)
    clip = load_backbone(backbone, device)
    folder = cache or default_cache()
    rows, failures = [], []
    with progress("encoding", len(found)) as advance:
        for done, (vid, path) in enumerate(found.items(), 1):
            try:
                video = extract(
                    path,
                    clip,
                    fps=fps,
                    framing=framing,  # type: ignore[arg-type]
                    cache=folder,
                    allow_truncated=allow_truncated,
                )
            except ZsvgError as error:
                failures.append(str(error))
            else:
                first, last = video.times[0], video.times[-1]
                rows.append(
                    (
                        vid,
                        f"{video.duration:.2f}",
                        str(len(video.times)),
                        f"{first:.3f} to {last:.3f}",
                    )
                )
            advance(done)
    table(("video", "seconds", "frames", "frame times"), rows)
    say(f"features of {len(rows)} of {len(found)} videos are in {folder}")
    _finish(failures)


@app.command("pseudo-label")
def pseudo_label(
    videos: Videos,
    output: Output = Path("pseudo.jsonl"),
    backbone: Backbone = None,
    captioner: Annotated[
        str | None, typer.Option(help="Frozen captioner: micro, a hub id, or a folder.")
    ] = None,
    clusters: Annotated[int | None, typer.Option(help="k of k-means.")] = None,
    per_video: Annotated[int | None, typer.Option(help="Most labels per video.")] = None,
    max_atoms: Annotated[
        int | None, typer.Option(help="Most atomic events in one composite event.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Least fit of sentence and event, -1 to 1.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Sampled captions per event; 0: one, by greedy search.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="strip (2x2 frames) or middle (one).")] = None,
    seed: Seed = 0,
    fps: Fps = 2.0,
    framing: Framing = "crop",
    cache: Cache = None,
    allow_truncated: Truncated = False,
    device: Device = None,
) -> None:
    """Watch unlabelled videos and write down what happens when.

    Example: zsvg pseudo-label videos/ --backbone micro --captioner micro -o pseudo.jsonl
    """
    from zsvg.backbones.captioner import load_captioner
    from zsvg.backbones.clip import load_backbone
    from zsvg.features import default_cache
    from zsvg.pseudo.label import default_options
    from zsvg.pseudo.label import pseudo_label as label
    from zsvg.records import write_annotations
    from zsvg.video import find_videos

    options = default_options(
        clusters=clusters,
        per_video=per_video,
        max_atoms=max_atoms,
        min_score=min_score,
        samples=samples,
        view=view,
    )
    found = find_videos(videos)
    clip = load_backbone(backbone, device)
    describe = load_captioner(captioner, device)
    work = output.with_name(f"{output.name}.parts")
    with progress("labelling", len(found)) as advance:
        report = label(
            found,
            clip,
            describe,
            options=options,
            seed=seed,
            cache=cache or default_cache(),
            work_dir=work,
            framing=framing,  # type: ignore[arg-type]
            fps=fps,
            allow_truncated=allow_truncated,
            on_progress=lambda done, _total, _vid: advance(done),
        )
    write_annotations(output, report.labels)
    _remove_parts(work)
    done = len(found) - len(report.failures)
    say(f"{len(report.labels)} pseudo labels of {done} videos: {output}")
    if report.silent:
        say(f"no event found a sentence in: {', '.join(report.silent)}")
    _finish(list(report.failures.values()))


@app.command()
def tune(
    labels: Annotated[Path, typer.Argument(help="Pseudo labels or annotations (JSONL).")],
    videos: Annotated[Path, typer.Option(help="Folder of the videos.")],
    output: Output = Path("model"),
    backbone: Backbone = None,
    recipe: Annotated[str, typer.Option(help="A shipped recipe, or a .yaml file.")] = "coop",
    validation: Annotated[
        Path | None, typer.Option(help="Annotations to select by [default: held-out labels].")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Overrides the recipe's steps.")] = None,
    seed: Seed = 0,
    fps: Fps = 2.0,
    framing: Framing = "crop",
    cache: Cache = None,
    allow_truncated: Truncated = False,
    mixed_precision: Annotated[str, typer.Option(help="no or bf16.")] = "no",
    dry_run: Annotated[bool, typer.Option(help="Say what would be done, and stop.")] = False,
    device: Device = None,
) -> None:
    """Tune prompts and a small head on labelled or pseudo-labelled videos.

    Example: zsvg tune pseudo.jsonl --videos videos/ --backbone micro -o model/
    """
    from zsvg.backbones.clip import load_backbone
    from zsvg.features import default_cache
    from zsvg.recipes import load_recipe
    from zsvg.records import read_annotations
    from zsvg.tuning import TuneOptions, plan
    from zsvg.tuning import tune as run
    from zsvg.video import find_videos

    chosen = load_recipe(recipe)
    if steps is not None:
        chosen = chosen.model_copy(
            update={"training": chosen.training.model_copy(update={"steps": steps})}
        )
    records = read_annotations(labels)
    held_out = read_annotations(validation) if validation else None
    options = TuneOptions(
        seed=seed,
        fps=fps,
        framing=framing,  # type: ignore[arg-type]
        mixed_precision=mixed_precision,  # type: ignore[arg-type]
        allow_truncated=allow_truncated,
    )
    found = find_videos(videos)
    clip = load_backbone(backbone, device)
    if dry_run:
        for line in plan(records, found, clip, chosen, options, validation=held_out):
            say(line)
        return
    total = chosen.training.steps
    with progress("tuning", total) as advance:
        outcome = run(
            records,
            found,
            clip,
            output,
            recipe=chosen,
            options=options,
            validation=held_out,
            cache=cache or default_cache(),
            on_step=lambda step, _loss: advance(step),
        )
    for line in outcome.summary():
        say(line)
    say(f"wrote the model to {output}")
    _finish(list(outcome.failures.values()))


@app.command()
def ground(
    videos: Videos,
    queries: Annotated[list[str], typer.Argument(help="One or more sentences.")],
    model: Model,
    top_k: Annotated[int, typer.Option(min=1, help="Most answers per sentence.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write predictions as JSONL.")
    ] = None,
    cut: Annotated[Path | None, typer.Option(help="Save the moments as clips here.")] = None,
    cache: Cache = None,
    allow_truncated: Truncated = False,
    device: Device = None,
) -> None:
    """Find the moments that sentences describe, in one video or across a folder.

    Example: zsvg ground videos/ "a red circle spins" --model model/
    """
    from zsvg.features import default_cache
    from zsvg.grounder import load
    from zsvg.records import Prediction, write_predictions
    from zsvg.video import cut as cut_clip
    from zsvg.video import find_videos

    found = find_videos(videos)
    grounder = load(model, device)
    answers: dict[str, list[tuple[float, float, float, str]]] = {query: [] for query in queries}
    predictions, failures = [], []
    with progress("grounding", len(found)) as advance:
        for done, (vid, path) in enumerate(found.items(), 1):
            try:
                encoded = grounder.encode(
                    path, cache=cache or default_cache(), allow_truncated=allow_truncated
                )
            except ZsvgError as error:
                failures.append(str(error))
                advance(done)
                continue
            for number, query in enumerate(queries):
                moments = grounder.ground(encoded, query, top_k=top_k).moments
                windows = tuple((m.start, m.end, m.score) for m in moments)
                answers[query] += [(*window, vid) for window in windows]
                predictions.append(
                    Prediction(
                        qid=f"{vid}-{number}", query=query, vid=vid, pred_relevant_windows=windows
                    )
                )
            advance(done)
    for number, query in enumerate(queries):
        best = sorted(answers[query], key=lambda a: (-a[2], a[3], a[0]))[:top_k]
        rows = [(vid, f"{s:.2f}", f"{e:.2f}", f"{score:.3f}") for s, e, score, vid in best]
        table(("video", "start", "end", "score"), rows, title=query)
        if cut is not None:
            cut.mkdir(parents=True, exist_ok=True)
            for rank, (start, end, _score, vid) in enumerate(best, 1):
                clip = cut / f"{number + 1:02d}-{rank}-{vid}.mp4"
                cut_clip(found[vid], start, end, clip)
                say(f"cut {clip}")
    if output is not None:
        write_predictions(output, predictions)
        say(f"wrote {output}")
    _finish(failures)


@app.command()
def predict(
    annotations: Annotated[Path, typer.Argument(help="Queries to answer (JSONL).")],
    videos: Annotated[Path, typer.Option(help="Folder of the videos.")],
    model: Model,
    output: Output = Path("predictions.jsonl"),
    top_k: Annotated[int, typer.Option(min=1, help="Most answers per query.")] = 5,
    cache: Cache = None,
    allow_truncated: Truncated = False,
    device: Device = None,
) -> None:
    """Answer every query of an annotation file; the answers in it are not looked at.

    Example: zsvg predict test.jsonl --videos videos/ --model model/ -o predictions.jsonl
    """
    from zsvg.features import default_cache
    from zsvg.grounder import load
    from zsvg.prediction import predict_all
    from zsvg.records import read_annotations, write_predictions
    from zsvg.video import find_videos

    records = read_annotations(annotations)
    found = find_videos(videos)
    grounder = load(model, device)
    with progress("answering", len(records)) as advance:
        predictions, failures = predict_all(
            grounder,
            records,
            found,
            top_k=top_k,
            cache=cache or default_cache(),
            allow_truncated=allow_truncated,
            on_progress=advance,
        )
    write_predictions(output, predictions)
    say(f"wrote {len(predictions)} predictions to {output}")
    _finish(list(failures.values()))


@app.command("evaluate")
def evaluate_command(
    predictions: Annotated[Path, typer.Argument(help="Predictions (JSONL).")],
    annotations: Annotated[Path, typer.Argument(help="The truth (JSONL).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """Score predictions: recall at IoU .3/.5/.7 of the first and first five answers, and mean IoU.

    Example: zsvg evaluate predictions.jsonl annotations.jsonl -o metrics.json
    """
    from zsvg.files import write_json
    from zsvg.metrics import as_percent, evaluate
    from zsvg.records import read_annotations, read_predictions

    try:
        result = evaluate(read_predictions(predictions), read_annotations(annotations))
    except ValueError as error:
        raise ZsvgError(f"{annotations}: {error}") from error
    names = [name for name in result if "@" in name or name == "mIoU"]
    groups = {"all": result, **result["kinds"]}
    rows = [
        (group, str(numbers["queries"]), *(as_percent(numbers[name]) for name in names))
        for group, numbers in groups.items()
    ]
    table(("queries", "n", *names), rows)
    for what in ("missing", "unknown", "invalid"):
        if result[what]:
            say(f"{what}: {result[what]}")
    if output is not None:
        write_json(output, result)
        say(f"wrote {output}")


@app.command()
def quickstart(
    domain: Annotated[str, typer.Option(help="A microworld domain.")] = "paper",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("quickstart"),
    videos: Annotated[int, typer.Option(min=10, help="Unlabelled videos.")] = 150,
    test_videos: Annotated[int, typer.Option(min=10, help="Test videos.")] = 50,
) -> None:
    """Run the whole path on a rendered domain nobody labelled, and measure it.

    Example: zsvg quickstart --domain night --out night/
    """
    from zsvg.quickstart import run

    def stage(name: str, total: int) -> Any:
        return progress(name, total)

    result = run(out, domain=domain, seed=seed, videos=videos, test_videos=test_videos, stage=stage)
    table(*result.table(), title=f"{domain}, seed {seed}: {result.queries} test queries")
    table(*result.kinds(), title="mIoU by kind of query")
    for line in result.notes():
        say(line)
    say(f"wrote {out / 'results.json'} and {out / 'report.html'}")


@app.command()
def demo(
    model: Model = "micro",
    share: Annotated[bool, typer.Option(help="Open a public link.")] = False,
    port: Annotated[int | None, typer.Option(help="Port on this machine.")] = None,
    device: Device = None,
) -> None:
    """Open the demo in a browser: upload a video, ask, see the moments.

    Example: zsvg demo --model model/
    """
    from importlib.util import module_from_spec, spec_from_file_location

    from zsvg.grounder import load
    from zsvg.resources import shipped

    # The demo is a program beside the package, not a module of it.
    spec = spec_from_file_location("zsvg_demo", shipped("demo") / "app.py")
    if spec is None or spec.loader is None:
        raise ZsvgError("the demo is missing from this installation of zsvg")
    page = module_from_spec(spec)
    spec.loader.exec_module(page)
    page.build_demo(load(model, device)).launch(
        share=share, server_port=port, max_file_size="500mb"
    )


def _remove_parts(folder: Path) -> None:
    """Remove the finished videos' files once the whole output is written."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _finish(failures: list[str]) -> None:
    """Report what failed in a batch; the exit status tells that something did."""
    for failure in failures:
        say(f"error: {failure}")
    if failures:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors that a user can act on are one line."""
    try:
        app()
    except (ZsvgError, FileNotFoundError, ValueError) as error:  # ValueError: a bad option
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the same command continues")
        sys.exit(130)


if __name__ == "__main__":
    main()
