"""Tuning with several processes, and several runs that want to write one model folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encode_video, started, two_processes
from test_training import PROMPTS, assert_equal_weights, make_examples, make_network, snapshot

from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli import app
from zsvg.errors import ZsvgError
from zsvg.files import locked, sha256_tensors
from zsvg.heads.losses import contrast_loss
from zsvg.heads.regression import AttentionRegressionHead
from zsvg.records import read_annotations
from zsvg.training.frame_queries import FrameQuery
from zsvg.training.loop import train
from zsvg.training.options import History, TrainingOptions, TuneOptions
from zsvg.training.recipes import load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

RECIPE = """
prompts: {text: true}
head: {hidden: 16, layers: 1, attention_heads: 2, dropout: 0.0, content_dropout: 0.0}
training: {steps: 30, batch_size: 4, warmup: 2, validate_every: 10}
held_out: 0.3
"""
OPTIONS = TrainingOptions(steps=50, batch_size=8, warmup=5, validate_every=10, denoise="no")
# name -> prompts, options
CASES = {
    "coop": ("coop", OPTIONS),
    "rounds": (
        "head alone",
        replace(
            OPTIONS,
            steps=60,
            accumulation=2,
            head_learning_rate=3e-3,
            denoise="both",
            denoise_from=30,
            denoise_every=12,
        ),
    ),
    # At small rates: where a gradient is almost zero, AdamW makes a step of its rounding.
    "maple": (
        "maple",
        replace(OPTIONS, steps=10, prompt_learning_rate=2e-4, head_learning_rate=1e-4),
    ),
}

# What a worker of torchrun runs.
WORKER = """
import sys
sys.path.insert(0, {tests!r})
import test_tune_processes as t
t.work(*sys.argv[1:])
"""
# In place of `zsvg`: the second process dies in step 25.
DYING = """
import os, signal
from zsvg.cli import app as cli
from zsvg.training import loop as training

def average_or_die(*args, average=training.average_gradients, steps=[]):
    steps.append(1)
    if os.environ["RANK"] == "1" and len(steps) == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    average(*args)

training.average_gradients = average_or_die
cli.main()
"""
# In place of `zsvg`: stays in step 22 until it is killed.
STUCK = """
import time
from zsvg.cli import app as cli
from zsvg.training import loop as training

def draw(*args, share=training.share_of_batch, **options):
    if args[2] == 22:
        print("stuck", flush=True)
        time.sleep(3600)
    return share(*args, **options)

training.share_of_batch = draw
cli.main()
"""


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder: Path) -> ClipBackbone:
    return load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of 6 s, two labels of each, and a recipe without dropout."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "videos").mkdir()
    rng, records = np.random.default_rng(5), []
    for vid in "abcdef":
        colours = rng.integers(0, 255, (6, 1, 6, 8, 3), np.uint8)
        scenes = colours.repeat(8, 2).repeat(8, 3).repeat(10, 1).reshape(60, 48, 64, 3)
        encode_video(folder / "videos" / f"{vid}.mp4", scenes)
        for number, query in enumerate(("a red ball moves", "a person opens the door")):
            start = float(rng.integers(0, 4))
            records.append(
                {
                    "qid": f"{vid}-{number}",
                    "query": query,
                    "vid": vid,
                    "duration": 6.0,
                    "relevant_windows": [[start, start + 2.0]],
                }
            )
    (folder / "labels.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "own.yaml").write_text(RECIPE)
    return folder


def arguments(world: Path, clip: Path, out: Path) -> list[str]:
    line = ["tune", str(world / "labels.jsonl"), "--videos", str(world / "videos")]
    line += ["--backbone", f"local-dir:{clip}", "--recipe", str(world / "own.yaml")]
    return [*line, "--cache", str(out.parent / "cache"), "--device", "cpu", "-o", str(out)]


def run_case(name: str, backbone: ClipBackbone, folder: Path) -> tuple[History, dict]:
    """Train without dropout; return the history and the weights."""
    prompts, options = CASES[name]
    network = make_network(backbone, PROMPTS[prompts](backbone))
    config = replace(network.head.config, dropout=0.0, content_dropout=0.0)
    head = AttentionRegressionHead(config)
    head.load_state_dict(network.head.state_dict())
    network.head = head
    examples = make_examples(backbone, 18, frames=True)
    for place in range(0, 13, 3) if name == "rounds" else ():  # begin too early, and will move
        early = np.maximum(examples[place].windows - [[3.0, 0.0]], 0.0)
        examples[place] = replace(examples[place], windows=early)
    try:
        history = train(network, examples[:13], examples[13:], options, folder)
        return history, snapshot(network)
    finally:
        network.release()


def run_wordless(backbone: ClipBackbone, folder: Path) -> dict:
    """Train where most batches have labels without sentences in one process only, or nowhere."""
    network = make_network(backbone)
    torch.manual_seed(1)
    network.frame_query = FrameQuery(backbone.embed_dim)
    examples = make_examples(backbone)
    examples[0] = replace(examples[0], wordless=True)
    train(network, examples, (), replace(OPTIONS, steps=6, batch_size=4), folder)
    return snapshot(network)


def work(clip: str, folder: str, *line: str) -> None:
    """What each of two processes does; what it saw is written to `folder`."""
    from zsvg.features.processes import launched

    processes, place = launched(), Path(folder)
    backbone = load_backbone(f"local-dir:{clip}", device="cpu")
    seen = {"processes": processes.count}
    for name in CASES:
        history, weights = run_case(name, backbone, place / name)
        seen[name] = history.to_json() | {"weights": sha256_tensors(weights)}
    seen["wordless"] = sha256_tensors(run_wordless(backbone, place / "wordless"))
    try:
        network = make_network(backbone, seed=processes.index)
        train(network, make_examples(backbone), (), OPTIONS, place / "other")
    except ZsvgError as error:
        seen["unlike"] = str(error)
    (place / f"process-{processes.index}.json").write_text(json.dumps(seen))
    processes.wait()
    sys.argv = ["zsvg", *line]
    app.main()


@pytest.fixture(scope="module")
def together(world, tiny_clip_folder, tmp_path_factory) -> tuple[list[dict], Path, str]:
    """What two processes saw in `work`, the model folder they tuned, and what was said."""
    folder = tmp_path_factory.mktemp("together")
    script = folder / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    line = arguments(world, tiny_clip_folder, folder / "model")
    ran = two_processes(str(script), str(tiny_clip_folder), str(folder), *line)
    assert ran.returncode == 0, ran.stderr
    seen = [json.loads((folder / f"process-{index}.json").read_text()) for index in (0, 1)]
    return seen, folder / "model", ran.stderr


class TestTwoProcesses:
    @pytest.mark.parametrize("name", CASES)
    def test_they_take_the_steps_of_one(self, name, together, backbone, tmp_path):
        seen, _, _ = together
        assert [one["processes"] for one in seen] == [2, 2]
        assert seen[0][name] == seen[1][name]  # the weights to the last bit
        both, alone = seen[0][name], run_case(name, backbone, tmp_path)[0].to_json()
        assert len(alone["losses"]) == CASES[name][1].steps
        np.testing.assert_allclose(both["losses"], alone["losses"], rtol=1e-4)
        for term, values in alone["terms"].items():
            np.testing.assert_allclose(both["terms"][term], values, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(both["validation"], alone["validation"], atol=1e-3)
        # Two steps may be best but for a hair.
        best = dict(alone["validation"])[both["best_step"]]
        assert best == pytest.approx(alone["best_score"], abs=1e-3)
        assert ("rounds" in both) == ("rounds" in alone) == (name == "rounds")
        for ours, theirs in zip(both.get("rounds", ()), alone.get("rounds", ()), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        if name == "rounds":
            assert min(one["label_iou"] for one in alone["rounds"]) < 1

    def test_weights_that_one_process_does_not_use_stay_alike(self, together):
        seen, _, _ = together
        assert seen[0]["wordless"] == seen[1]["wordless"]

    def test_processes_that_start_differently_are_stopped(self, together):
        seen, _, _ = together
        assert "do not start alike" in seen[0]["unlike"]
        assert seen[0]["unlike"] == seen[1]["unlike"]

    def test_only_the_main_one_writes_and_speaks(self, together):
        _, model, said = together
        assert said.count("held-out labels, mIoU: ") == 1
        assert said.count("wrote the model to ") == 1
        names = {path.name for path in model.iterdir()}
        assert {"zsvg.json", "head.safetensors", "adapter_config.json", "history.json"} <= names
        manifest = json.loads((model / "zsvg.json").read_text())
        assert manifest["processes"] == 2
        assert set(manifest["held_out"]) == {"training-free", "tuned"}
        assert [p.name for p in model.parent.iterdir() if "model" in p.name] == ["model"]

    def test_one_that_is_killed_is_made_up_for(
        self, world, tiny_clip_folder, tmp_path, monkeypatch, capsys
    ):
        out, hook = tmp_path / "model", tmp_path / "dying.py"
        hook.write_text(DYING)
        broken = tmp_path / "world"
        broken.mkdir()
        (broken / "own.yaml").write_text(RECIPE)
        (broken / "videos").mkdir()
        for video in (world / "videos").iterdir():
            (broken / "videos" / video.name).write_bytes(video.read_bytes())
        (broken / "videos" / "f.mp4").write_bytes(b"no video")
        (broken / "labels.jsonl").write_bytes((world / "labels.jsonl").read_bytes())
        line = arguments(broken, tiny_clip_folder, out)

        killed = two_processes(str(hook), *line)
        assert killed.returncode != 0
        assert "Signal 9" in killed.stderr
        assert not out.exists()
        checkpoint = json.loads((tmp_path / "model.checkpoint" / "checkpoint.json").read_text())
        assert checkpoint["progress"]["step"] == 20

        again = two_processes("-m", "zsvg", *line)
        assert again.returncode == 1
        assert re.findall(r"^ +exitcode +: (-?\d+)", again.stderr, re.MULTILINE) == ["1", "1"]
        # The bad video is named once, by the main process.
        assert len(re.findall(r"^error: .*f\.mp4", again.stderr, re.MULTILINE)) == 1
        assert again.stderr.count("wrote the model to ") == 1
        assert [p.name for p in tmp_path.iterdir() if "model" in p.name] == ["model"]

        line[-1] = str(tmp_path / "alone")
        monkeypatch.setattr(sys, "argv", ["zsvg", *line])
        with pytest.raises(SystemExit) as left:
            app.main()
        assert left.value.code == 1
        assert "wrote the model to " in capsys.readouterr().err
        ours, theirs = (
            json.loads((tmp_path / name / "history.json").read_text())
            for name in ("model", "alone")
        )
        np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-4)


def test_two_halves_that_see_each_other_are_contrasted_like_the_whole():
    generator = torch.Generator().manual_seed(0)
    summary, query = (
        torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=-1)
        for _ in range(2)
    )
    query[4] = query[1]  # the same sentence in both halves is no negative
    others = torch.rand(6, 3, generator=generator)
    others[2] = -torch.inf
    weight = torch.rand(6, generator=generator)
    scale = torch.tensor(7.0)
    whole = contrast_loss(summary, query, others, scale, weight=weight)
    halves = []
    for own, other in ((slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))):
        away = torch.stack((summary[other], query[other]))
        halves.append(
            contrast_loss(
                summary[own], query[own], others[own], scale, weight=weight[own], away=away
            )
        )
    torch.testing.assert_close(sum(halves) / 2, whole)


# ---- several runs -------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_a_killed_one_is_continued(
    world, tiny_clip_folder, backbone, tmp_path
):
    out, script = tmp_path / "model", tmp_path / "stuck.py"
    script.write_text(STUCK)
    line = arguments(world, tiny_clip_folder, out)
    settings = {
        "recipe": load_recipe(str(world / "own.yaml")),
        "options": TuneOptions(),
        "cache": tmp_path / "cache",
    }
    task = (read_annotations(world / "labels.jsonl"), find_videos(world / "videos"), backbone)
    with started(script, *line, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "stuck\n"
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(ZsvgError, match=f"^another run is writing {re.escape(str(out))}; "):
            tune(*task, out, **settings)
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
        tune(*task, tmp_path / "elsewhere", **settings)
    assert (tmp_path / ".model.lock").exists()
    outcome = tune(*task, out, **settings)
    assert outcome.history.resumed_at == 20
    assert outcome.history.steps == 30
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"model", "elsewhere", "cache", "stuck.py"}
    from safetensors.torch import load_file

    assert_equal_weights(
        *(load_file(tmp_path / name / "head.safetensors") for name in ("model", "elsewhere"))
    )


def test_a_lock_has_one_holder_at_a_time(tmp_path):
    path, holders, most, wins = tmp_path / "deep" / "lock", [], [], []

    def compete(name: int) -> None:
        while wins.count(name) < 25:
            with locked(path) as held:
                if held:
                    holders.append(name)
                    most.append(len(holders))
                    time.sleep(0.0002)
                    holders.remove(name)
                    wins.append(name)
            time.sleep(0.0002)  # let another one have it

    threads = [threading.Thread(target=compete, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(wins) == len(most) == 100
    assert list(path.parent.iterdir()) == []


def test_an_error_frees_the_lock(tmp_path):
    def fail() -> None:
        with locked(tmp_path / "lock") as held:
            assert held
            with locked(tmp_path / "lock") as again:
                assert not again
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with locked(tmp_path / "lock") as held:
        assert held
