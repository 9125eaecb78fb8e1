"""Audit of pseudo labels, and the probe that puts noise in front of videos."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.cli.app import app
from zsvg.datasets import convert
from zsvg.errors import ZsvgError
from zsvg.evaluation.audit import audit
from zsvg.evaluation.probe import noise_in_front, probe
from zsvg.grounding.grounder import Grounder
from zsvg.microworld.world import truth, write_world
from zsvg.records import Annotation, write_annotations
from zsvg.video.finding import find_videos


def label(vid, *windows, query="q", duration=100) -> Annotation:
    return Annotation(
        qid=f"{vid}-{random.random()}",
        query=query,
        vid=vid,
        duration=duration,
        relevant_windows=windows,
    )


def windows(count, seed):
    draw = random.Random(seed)
    for number in range(count):
        start = draw.uniform(0, 80)
        yield f"v{number}", (start, start + draw.uniform(5, 20))


def test_numbers_by_hand():
    labels = [label("a", (0, 10)), label("a", (0, 10)), label("b", (0, 20)), label("x", (0, 1))]
    true = [label("a", (0, 20)), label("b", (10, 20), (50, 60)), label("c", (0, 5))]
    values = audit(labels, true).values
    assert (values["labels"], values["events"], values["videos"]) == (3, 2, 2)
    assert (values["moments"], values["uncovered_videos"], values["unknown_videos"]) == (4, 1, 1)
    assert values["duplicates"] == 1
    assert values["precision"]["own"] == {"mean": 0.5, "0.5": 1.0, "0.7": 0.0}
    assert values["coverage"]["own"]["mean"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert values["coverage"]["all_videos"]["mean"] == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    # Exchanged: a has (0, 20) and b has (0, 10) twice.
    assert values["precision"]["exchanged"]["mean"] == pytest.approx((1 + 0 + 0) / 3)
    assert values["minimum"] == 0.5
    assert sum(values["length"]["labels"]) == pytest.approx(1)
    with pytest.raises(ZsvgError, match="no video in common"):
        audit(labels[3:], true)


def test_labels_chosen_by_the_truth_are_noticed_and_honest_ones_are_not():
    true = [label(vid, window) for vid, window in windows(400, 0)]
    blind = [label(vid, window) for vid, window in windows(400, 1)]
    assert not audit(blind, true).values["warnings"]
    draw = random.Random(2)
    near = [
        label(vid, (max(start + draw.uniform(-6, 6), 0), end + draw.uniform(-6, 6)))
        for vid, (start, end) in windows(400, 0)
        if end - start > 12
    ]
    found = [r for r in near if r.relevant_windows[0][0] < r.relevant_windows[0][1]]
    honest = [*found, *blind[:80]]  # good, but sometimes wrong, as who looks at videos is
    assert not audit(honest, true).values["warnings"]
    (warning,) = audit(found, true).values["warnings"]
    assert "leak" in warning
    assert any("digit" in line for line in audit(true, true).values["warnings"])


def test_released_pseudo_labels(data_folder, tmp_path):
    folder = data_folder / "annotations" / "charades_sta"
    durations = folder / "Charades_duration.json"
    files = {
        "train": ("charades-sta", folder / "charades_sta_train.txt", durations),
        "psvl": (
            "psvl",
            folder / "psvl" / "charades_train_pseudo_supervision_TEP_PS.json.gz",
            None,
        ),
        "spl": ("spl", folder / "spl" / "charades_sta_train_pseudo.txt.gz", durations),
    }
    paths = {}
    for name, (form, path, lengths) in files.items():
        paths[name] = str(tmp_path / f"{name}.jsonl")
        write_annotations(paths[name], convert(form, path, durations=lengths, as_is=True).records)
    done = CliRunner().invoke(app, ["audit", paths["psvl"], paths["train"]])
    assert done.exit_code == 0
    assert "3848 distinct events" in done.output
    assert "best IoU 0.5500" in done.output
    assert "leak" in done.output
    out = tmp_path / "audit.json"
    done = CliRunner().invoke(app, ["audit", paths["spl"], paths["train"], "-o", str(out)])
    assert "leak" not in done.output
    values = json.loads(out.read_text())
    measured = [values[what]["own"][key] for what in ("coverage", "precision")
                for key in ("mean", "0.5", "0.7")]  # fmt: skip
    assert [round(value, 3) for value in measured] == [0.527, 0.551, 0.287, 0.319, 0.281, 0.118]


def test_noise_moves_the_truth_and_keeps_the_features(tiny_clip_folder, tmp_path):
    write_world(tmp_path, domain="studio", videos=2, seed=4)
    videos = find_videos(tmp_path / "videos")
    grounder = Grounder(load_backbone(f"local-dir:{tiny_clip_folder}", "cpu"))
    plain = grounder.encode(next(iter(videos.values())))
    moved = noise_in_front(grounder, plain, 3.2)
    assert moved.duration == plain.duration + 3  # six clips of half a second
    np.testing.assert_array_equal(moved.frames.features[6:], plain.frames.features)
    np.testing.assert_allclose(moved.frames.times[6:], plain.frames.times + 3)
    assert len(moved.frames.edges) == len(plain.frames.edges) + 6
    assert noise_in_front(grounder, plain, 0) is plain
    with pytest.raises(ValueError, match="noise"):
        noise_in_front(grounder, plain, -1)
    annotations = truth("studio", "train", 4, 2)
    rows, failures = probe(grounder, annotations, videos, seconds=[5])
    assert not failures
    assert [row["seconds"] for row in rows] == [0, 5]
    assert (rows[0]["followed"], rows[0]["stayed"]) == (1, 1)
    assert rows[1]["metrics"]["queries"] == len(annotations)
    assert 0 <= rows[1]["followed"] <= 1


class ByPlace(Grounder):
    """Answers the first two seconds, whatever it sees."""

    def ground(self, video, query, top_k=5):
        found = super().ground(video, query, top_k)
        first = zsvg.Moment(start=0.0, end=2.0, score=1.0)
        return zsvg.Grounding(
            query=query, vid=found.vid, moments=(first,), curve=found.curve, centres=found.centres
        )


class Silent(Grounder):
    """Answers nothing to one sentence, and to another only without noise."""

    silent: tuple[str, str]
    longest: float

    def ground(self, video, query, top_k=5):
        found = super().ground(video, query, top_k)
        noisy = video.duration > self.longest
        nothing = query == self.silent[0] or (noisy and query == self.silent[1])
        return replace(found, moments=()) if nothing else found


def test_a_probe_counts_what_is_answered_nothing(tiny_clip_folder, tmp_path):
    write_world(tmp_path, domain="studio", videos=1, seed=4)
    videos = find_videos(tmp_path / "videos")
    annotations = truth("studio", "train", 4, 1)
    annotations = [replace(a, qid=i) for i, a in enumerate(annotations[:2])]
    assert annotations[0].query != annotations[1].query
    grounder = Silent(load_backbone(f"local-dir:{tiny_clip_folder}", "cpu"))
    grounder.longest = annotations[0].duration + 1
    grounder.silent = annotations[0].query, annotations[1].query
    timeless = replace(annotations[1], qid=9, relevant_windows=())
    rows, failures = probe(grounder, [*annotations, timeless], videos, seconds=[10])
    # Of two queries, the one that is answered follows itself without noise, and nothing with it.
    assert [(row["followed"], row["stayed"]) for row in rows] == [(0.5, 0.5), (0, 0)]
    assert [row["metrics"]["queries"] for row in rows] == [2, 2]
    assert rows[1]["metrics"]["mIoU"] == 0
    (why,) = failures.values()
    assert "no relevant_windows" in why


def test_the_probe_tells_place_from_content(tiny_clip_folder, tmp_path):
    write_world(tmp_path, domain="studio", videos=1, seed=4)
    videos = find_videos(tmp_path / "videos")
    annotations = truth("studio", "train", 4, 1)
    grounder = ByPlace(load_backbone(f"local-dir:{tiny_clip_folder}", "cpu"))
    rows, _ = probe(grounder, annotations, videos, seconds=[10])
    assert (rows[1]["stayed"], rows[1]["followed"]) == (1, 0)
    assert rows[1]["metrics"]["mIoU"] == 0
    _, failures = probe(grounder, [*annotations, label("gone", (0, 1))], videos, seconds=[])
    assert "gone" in failures
    source = tmp_path / "a.jsonl"
    write_annotations(source, annotations)
    arguments = ["probe", str(source), "--videos", str(tmp_path / "videos")]
    backbone = ["--model", f"local-dir:{tiny_clip_folder}", "--seconds", "4"]
    done = CliRunner().invoke(app, [*arguments, *backbone, "--cache", str(tmp_path / "features")])
    assert done.exit_code == 0, done.output
    assert "4 s" in done.output
