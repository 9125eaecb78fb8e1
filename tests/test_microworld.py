import itertools
import json

import numpy as np
import pytest
from conftest import run_python
from pretraining.captions import event_caption, frame_caption

from zsvg.errors import ZsvgError
from zsvg.evaluation import baselines
from zsvg.evaluation.metrics import evaluate
from zsvg.microworld.domains import DEVELOPMENT, LOOKS, PRETRAINING, REPORTED
from zsvg.microworld.language import (
    ACTION_WORDS,
    WORDINGS,
    vocabulary,
)
from zsvg.microworld.render import SIZE, Renderer
from zsvg.microworld.script import ACTIONS, SPLITS, generator, pose, sample_scene
from zsvg.microworld.world import plan_video, truth, write_world
from zsvg.records import read_annotations
from zsvg.video.finding import find_videos
from zsvg.video.reading import decode_summary


def test_domains_are_one_to_learn_one_to_choose_and_three_to_report():
    assert len({PRETRAINING, DEVELOPMENT, *REPORTED}) == len(LOOKS) == 5
    assert set(WORDINGS) == {look.wording for look in LOOKS.values()}


def test_splits_domains_seeds_and_videos_never_share_a_random_stream():
    keys = itertools.product(LOOKS, SPLITS, (0, 1), (0, 1))
    first = {generator(*key).integers(2**62) for key in keys}
    assert len(first) == len(LOOKS) * len(SPLITS) * 4


@pytest.mark.parametrize("domain", LOOKS)
def test_scripts_keep_their_promises(domain):
    for index in range(40):
        scene, annotations = plan_video(domain, "test", 3, index)
        assert 20 <= scene.duration <= 60
        assert 3 <= len(scene.events) <= 6
        clock = 0.0
        for event in scene.events:
            assert event.start - clock >= 0.9  # idle
            assert event.end - event.start >= 1.5
            clock = event.end
        assert clock <= scene.duration
        told = {a.extra["event"] for a in annotations if a.extra["kind"] == "action"}
        assert told == set(range(len(scene.events)))
        assert len({(a.extra["event"], a.query) for a in annotations}) == len(annotations)
        for annotation in annotations:
            event = scene.events[annotation.extra["event"]]
            assert annotation.relevant_windows == ((event.start, event.end),)
            assert annotation.extra["kind"] in ("object", "attribute", "action", "relation")
            twins = [e for e in scene.events if e.thing == event.thing and e is not event]
            assert annotation.extra["ambiguous_object"] == bool(twins)
            if annotation.extra["kind"] == "action":
                assert all(e.action != event.action for e in twins)
            if annotation.extra["kind"] == "object":
                looks = [(e.thing.colour, e.thing.shape) for e in scene.events]
                assert looks.count((event.thing.colour, event.thing.shape)) == 1


@pytest.mark.parametrize("domain", LOOKS)
def test_trivial_answers_fail_and_objects_alone_do_not_decide(domain):
    test, train = truth(domain, "test", 0, 120), truth(domain, "train", 0, 120)
    answers = (
        baselines.whole_video(test),
        baselines.fixed_window(test, *baselines.fit_fixed_window(train)),
        baselines.uniform_part(test, parts=5),
        baselines.random_windows(test, seed=0),
    )
    for predictions in answers:
        scores = evaluate(predictions, test)
        assert scores["mIoU"] <= 0.25
        assert scores["R1@0.5"] <= 0.15
    assert np.mean([a.extra["ambiguous_object"] for a in test]) >= 0.4


def test_every_word_of_every_domain_is_in_the_vocabulary_and_in_pre_training():
    words = set(vocabulary())
    for domain in LOOKS:
        for annotation in truth(domain, "train", 0, 60):
            assert set(annotation.query.split()) <= words
    told: set[str] = set()
    for index in range(1500):
        rng = generator(PRETRAINING, "train", 9, index)
        scene = sample_scene(rng, vid="", domain=PRETRAINING)
        event = scene.events[0]
        told |= set(event_caption(rng, scene, event).split())
        seen = [(event.thing, event.x, event.y, event.size)]
        seen += [(d.thing, d.x, d.y, None) for d in scene.distractors]
        told |= set(frame_caption(rng, scene, seen).split())
        told |= set(frame_caption(rng, scene, []).split())
    assert words <= told | {"before", "after"}  # order is nothing that a picture shows


def test_every_action_changes_what_is_seen_except_staying():
    for index in range(300):
        scene, _ = plan_video("studio", "train", 5, index)
        for event in scene.events:
            times = np.linspace(event.start, event.end - 1e-6, 47)
            poses = {
                (round(p.x, 3), round(p.y, 3), round(p.scale, 3), round(p.angle), p.opacity)
                for p in (pose(event, float(t)) for t in times)
            }
            assert (len(poses) == 1) == (event.action == "stay")
    assert set(ACTIONS) == set(ACTION_WORDS)


@pytest.mark.parametrize("domain", LOOKS)
def test_rendering_repeats_and_shows_the_event(domain):
    scene, _ = plan_video(domain, "test", 0, 2)
    event = next(e for e in scene.events if e.action not in ("blink", "enter", "leave"))
    middle = (event.start + event.end) / 2
    frame = Renderer(scene).frame(middle)
    assert frame.shape == (SIZE, SIZE, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, Renderer(scene).frame(middle))
    idle = Renderer(scene).frame(event.start - 0.4)
    at = pose(event, middle)
    x, y = int(at.x * SIZE), int(at.y * SIZE)
    patch = (slice(max(0, y - 20), y + 20), slice(max(0, x - 20), x + 20))
    change = np.abs(frame[patch].astype(float) - idle[patch].astype(float)).mean()
    assert change > 3


def test_a_world_on_disk_is_video_and_truth_and_an_interrupted_one_continues(tmp_path):
    folder = write_world(tmp_path, domain="night", videos=2, split="val", seed=4, workers=1)
    videos = find_videos(folder / "videos")
    annotations = read_annotations(folder / "annotations.jsonl")
    assert {a.vid for a in annotations} == set(videos)
    assert annotations == truth("night", "val", 4, 2)
    for vid, path in videos.items():
        info = decode_summary(path)
        assert info.codec == "h264"
        duration = next(a.duration for a in annotations if a.vid == vid)
        assert info.duration == pytest.approx(duration, abs=0.11)
    first, second = videos.values()
    content = second.read_bytes()
    before = first.stat().st_mtime_ns
    second.unlink()
    write_world(tmp_path, domain="night", videos=2, split="val", seed=4, workers=1)
    assert second.read_bytes() == content
    assert first.stat().st_mtime_ns == before
    scenes = (folder / "scenes.jsonl").read_text().splitlines()
    assert json.loads(scenes[0])["vid"] in videos


def test_a_folder_is_of_one_world_which_may_grow(tmp_path, run_zsvg):
    def world(**change):
        options = {"domain": "night", "split": "val", "seed": 4, "videos": 2, **change}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        status, _, said = run_zsvg("microworld", "-o", tmp_path, *words)
        return status, said

    assert world()[0] == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for change in ({"domain": "paper"}, {"split": "test"}, {"seed": 5}, {"videos": 1}):
        status, said = world(**change)
        assert (status, said.count("\n")) == (1, 1)
        assert f"error: {tmp_path}: holds night-val-4-000" in said
        assert "choose another folder" in said
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert world(videos=3)[0] == 0
    assert read_annotations(tmp_path / "annotations.jsonl") == truth("night", "val", 4, 3)
    (tmp_path / "videos" / "holiday.mp4").write_bytes(b"mine")
    status, said = world(videos=3)
    assert (status, "holds holiday.mp4" in said) == (1, True)


def test_unlabelled_means_that_nothing_but_videos_is_written(tmp_path):
    write_world(tmp_path, domain="paper", videos=1, annotations=False, workers=1)
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".mp4"]


def test_bad_requests_name_the_value(tmp_path):
    with pytest.raises(ZsvgError, match=r"moon.*studio, chalk"):
        write_world(tmp_path, domain="moon", videos=1)
    with pytest.raises(ZsvgError, match=r"dev.*train, val, test"):
        write_world(tmp_path, domain="paper", videos=1, split="dev")
    with pytest.raises(ZsvgError, match="--videos 0"):
        write_world(tmp_path, domain="paper", videos=0)


def test_planning_a_world_needs_no_torch():
    code = "import sys; import zsvg.microworld.world as w; w.truth('paper', 'test', 0, 3);"
    code += "sys.exit('torch' in sys.modules)"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
