"""Pseudo labels: which sentence goes to which event, and whole runs over real small videos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import encode_video
from test_captioner import write_tiny_blip

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.events.proposals import ProposalOptions
from zsvg.files import sha256_file
from zsvg.label.one_video import Labelling
from zsvg.label.queries import QueryOptions, choose, fit
from zsvg.label.run import LabelOptions, LabelReport, pseudo_label
from zsvg.label.views import caption_events, clean, view_times
from zsvg.records import check_trainable, read_annotations, write_annotations
from zsvg.video.finding import find_videos

LENIENT = LabelOptions(queries=QueryOptions(min_score=-1.0))


def scenes(colours: list[tuple[int, int, int]], each: int = 20, seed: int = 0) -> np.ndarray:
    """Frames of plain scenes with their own texture, `each` frames long."""
    rng = np.random.default_rng(seed)
    frames = []
    for colour in colours:
        texture = rng.integers(-60, 60, (6, 8, 1)).repeat(8, 0).repeat(8, 1)
        still = np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)
        frames += [still] * each
    return np.stack(frames)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of three or four scenes, 6 to 8 s."""
    folder = tmp_path_factory.mktemp("unlabelled")
    red, green, blue, grey = (200, 40, 40), (40, 200, 40), (40, 40, 200), (120, 120, 120)
    encode_video(folder / "a.mp4", scenes([red, green, blue]))
    encode_video(folder / "b.mp4", scenes([grey, red, green, blue], seed=1))
    encode_video(folder / "c.mp4", scenes([red, blue, red], seed=2))
    encode_video(folder / "d.mp4", scenes([green, grey, blue], seed=3))
    return folder


@pytest.fixture(scope="module")
def models(tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    blip = write_tiny_blip(tmp_path_factory.mktemp("captioner") / "blip")
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")
    return backbone, load_captioner(str(blip), device="cpu")


def run(videos, models, tmp_path: Path, **changes) -> LabelReport:
    settings = {"options": LENIENT, "cache": tmp_path / "cache", "work_dir": tmp_path / "work"}
    settings.update(changes)
    return pseudo_label(videos, *models, **settings)


def as_bytes(report: LabelReport, path: Path) -> bytes:
    write_annotations(path, report.labels)
    return path.read_bytes()


class TestChoose:
    """Eight clips of one second; frames show each sentence as much as its curve says."""

    centres = np.arange(8) + 0.5

    def pick(self, captions, curves, **options):
        """Choose from captions {(start, end): sentences} and curves {sentence: four values}."""
        texts = sorted(curves)
        return choose(
            list(captions.values()),
            texts,
            np.eye(len(texts)),
            np.array([np.repeat(curves[text], 2) for text in texts], float).T,
            events=np.array(list(captions), float),
            centres=self.centres,
            options=QueryOptions(**options),
        )

    def test_fit_is_the_correlation_with_being_inside(self):
        rng = np.random.default_rng(0)
        curves = np.vstack((rng.normal(size=(3, 9)), np.full((1, 9), 0.3)))
        inside = np.arange(9) // 3 == 1
        expected = [np.corrcoef(curve, inside)[0, 1] for curve in curves[:3]]
        np.testing.assert_allclose(fit(curves, inside), [*expected, 0.0], atol=1e-12)
        np.testing.assert_allclose(fit(3.0 * inside[None] + 1, inside), [1.0])
        for nothing in (np.ones(9, bool), np.zeros(9, bool)):
            np.testing.assert_array_equal(fit(curves, nothing), np.zeros(4))

    def test_a_sentence_goes_to_the_event_it_fits(self):
        captions = {(0, 2): ["cat"], (0, 4): ["cat"], (2, 4): ["cat"], (4, 6): ["dog"]}
        curves = {"cat": [0.4, 0.5, 0.1, 0.1], "dog": [0.1, 0.1, 0.4, 0.1]}
        queries = self.pick(captions, curves, min_score=0.6)
        assert [(q.text, q.span) for q in queries] == [
            ("cat", (0.0, 4.0)),  # though [2, 4) alone has the larger difference of means
            ("dog", (4.0, 6.0)),
        ]

    def test_an_event_that_looks_like_no_event_makes_a_sentence_less_likely(self):
        captions = {(0, 4): ["cat"], (4, 8): ["dog"]}
        curves = {"cat": [1, 1, 0, 0], "dog": [0, 0.5, 1, 1], "grass": [0, 2, 2, 0]}
        cat, dog = self.pick(captions, curves, min_score=-1.0)
        inside = np.arange(8) < 4
        frames = np.array([np.repeat(curves[text], 2) for text in sorted(curves)], float).T
        alone = fit((frames @ frames[inside].mean(axis=0))[None], inside)[0]
        said = fit(np.repeat([curves["cat"]], 2, axis=1), inside)[0]
        assert cat.score == pytest.approx((alone + said) / 2)
        assert cat.score != dog.score

    def test_the_better_of_two_captions_is_taken(self):
        curves = {"cat": [0.1, 0.9, 0.1, 0.1], "dog": [0.5, 0.5, 0.5, 0.4]}
        (query,) = self.pick({(2, 4): ["dog", "cat"], (6, 8): []}, curves)
        assert query.text == "cat"

    def test_a_sentence_is_used_once(self):
        curves = {"cat": [0.5, 0, 0.6, 0]}
        (query,) = self.pick({(0, 2): ["cat"], (4, 6): ["cat"]}, curves)
        assert query.span == (4.0, 6.0)

    def test_of_events_that_overlap_the_best_is_kept(self):
        captions = {(0, 4): ["a"], (2, 4): ["b"]}
        curves = {"a": [0.5, 0.5, 0, 0], "b": [0.3, 0.4, 0, 0]}
        (query,) = self.pick(captions, curves, overlap=0.3)
        assert (query.text, query.span) == ("a", (0.0, 4.0))
        assert len(self.pick(captions, curves, overlap=1.0)) == 2

    def test_cap_keeps_the_best_in_order_of_time(self):
        captions = {(0, 2): ["a"], (2, 4): ["b"], (4, 6): ["c"], (6, 8): ["d"]}
        curves = {
            "a": [0.3, 0, 0, 0],
            "b": [0.2, 0.3, 0.1, 0],
            "c": [0, 0, 0.5, 0],
            "d": [0.2, 0, 0.1, 0.3],
        }
        queries = self.pick(captions, curves, per_video=2)
        assert [query.text for query in queries] == ["a", "c"]

    def test_options_are_checked(self):
        for wrong in (
            {"view": "gif"},
            {"overlap": 2},
            {"samples": -1},
            {"per_video": 0},
            {"min_score": 3},
        ):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                QueryOptions(**wrong)


class TestCaptions:
    def test_times_are_spread_inside_the_event(self):
        spans = np.array([[0, 8], [8, 12]])
        np.testing.assert_allclose(
            view_times(spans, "strip"), [[1, 3, 5, 7], [8.5, 9.5, 10.5, 11.5]]
        )
        np.testing.assert_allclose(view_times(spans, "middle"), [[4], [10]])

    @pytest.mark.parametrize(
        ("caption", "cleaned"),
        [
            ("a series of photos showing a woman cooking", "a woman cooking"),
            ("four pictures of a man opening a door.", "a man opening a door"),
            ("there are four images of a dog", "a dog"),
            ("a collage of  two people dancing", "two people dancing"),
            ("the red circle moves right", "the red circle moves right"),
            ("a man hangs a picture on the wall", "a man hangs a picture on the wall"),
            ("a photo album with a cover", "a photo album with a cover"),
            (" . ", ""),
        ],
    )
    def test_talk_about_pictures_is_cut(self, caption, cleaned):
        assert clean(caption) == cleaned

    def test_the_captioner_sees_strips_or_single_frames(self):
        class Spy:
            seen: list[tuple[int, ...]] = []  # noqa: RUF012

            def caption(self, images):
                self.seen += [image.shape for image in images]
                return ["a cat", "  "]

            def sample(self, images, samples, *, seed):
                return [["b", "a", "a."], ["", "c", "c"]]

        spy = Spy()
        assert caption_events(np.zeros((2, 4, 6, 6, 3), np.uint8), spy) == [["a cat"], []]
        assert caption_events(np.zeros((2, 1, 6, 6, 3), np.uint8), spy) == [["a cat"], []]
        assert spy.seen == [(12, 12, 3)] * 2 + [(6, 6, 3)] * 2
        drawn = caption_events(np.zeros((2, 1, 6, 6, 3), np.uint8), spy, samples=3)
        assert drawn == [["a", "b"], ["c"]]


class TestPseudoLabel:
    def test_labels_of_an_unlabelled_folder_can_be_trained_on(self, videos, models, tmp_path):
        report = run(find_videos(videos), models, tmp_path)
        assert report.failures == {}
        assert {label.vid for label in report.labels} | set(report.silent) == {"a", "b", "c", "d"}
        assert len(report.labels) >= 4
        assert [label.vid for label in report.labels] == sorted(x.vid for x in report.labels)
        assert len({label.qid for label in report.labels}) == len(report.labels)
        check_trainable(report.labels)
        for label in report.labels:
            source = label.extra["source"]
            assert source["proposals"] == "blocks"
            assert source["caption"] == label.query
            assert -1 <= source["score"] <= 1
            assert label.extra["weight"] == 1.0
        as_bytes(report, tmp_path / "pseudo.jsonl")
        assert read_annotations(tmp_path / "pseudo.jsonl") == list(report.labels)

    def test_events_end_at_hard_cuts(self, videos, models, tmp_path):
        options = LabelOptions(proposals=ProposalOptions(count=3))
        run({"a": videos / "a.mp4"}, models, tmp_path, options=options)
        (part,) = (tmp_path / "work").glob("*.json")
        events = json.loads(part.read_text())["events"]
        np.testing.assert_allclose(sorted(events), [[0, 2], [2, 4], [4, 6]], atol=0.5)

    def test_resuming_gives_the_same_bytes_and_skips_what_is_done(
        self, videos, models, tmp_path, monkeypatch
    ):
        whole = as_bytes(run(find_videos(videos), models, tmp_path), tmp_path / "1.jsonl")
        parts = sorted((tmp_path / "work").iterdir())
        assert len(parts) == 4
        hashes = [sha256_file(part) for part in parts]
        for part in parts[::2]:
            part.unlink()
        parts[1].write_text('{"labels": [')  # damaged: done again
        calls: list[Path] = []
        real = Labelling.look

        def counted(labeller, path, content):
            calls.append(path)
            return real(labeller, path, content)

        monkeypatch.setattr(Labelling, "look", counted)
        again = run(find_videos(videos), models, tmp_path, cache=tmp_path / "other-cache")
        assert len(calls) == 3
        assert as_bytes(again, tmp_path / "2.jsonl") == whole
        assert [sha256_file(part) for part in sorted((tmp_path / "work").iterdir())] == hashes

    @pytest.mark.parametrize("samples", [0, 2])
    def test_company_and_order_change_nothing(self, videos, models, tmp_path, samples):
        options = LabelOptions(queries=QueryOptions(min_score=-1.0, samples=samples))
        found = find_videos(videos)
        together = run(found, models, tmp_path, options=options, work_dir=None)
        alone = []
        for vid in reversed(found):
            report = run({vid: found[vid]}, models, tmp_path, options=options, work_dir=None)
            alone = [*report.labels, *alone]
        assert list(together.labels) == alone

    def test_settings_and_seed_are_part_of_what_is_done(self, videos, models, tmp_path):
        one = {"b": videos / "b.mp4"}
        run(one, models, tmp_path)
        run(one, models, tmp_path, seed=1)
        run(one, models, tmp_path, fps=4.0)
        run(one, models, tmp_path, options=LabelOptions(queries=QueryOptions(view="middle")))
        assert len(list((tmp_path / "work").iterdir())) == 4

    def test_a_bad_video_is_reported_and_the_rest_is_done(self, videos, models, tmp_path):
        folder = tmp_path / "mixed"
        shutil.copytree(videos, folder)
        (folder / "broken.mp4").write_bytes((videos / "a.mp4").read_bytes()[:700])
        found = {**find_videos(folder), "gone": folder / "gone.mp4"}
        seen: list[tuple[int, int, str]] = []
        report = run(found, models, tmp_path, on_progress=lambda *step: seen.append(step))
        assert set(report.failures) == {"broken", "gone"}
        assert all("\n" not in reason and reason for reason in report.failures.values())
        assert {label.vid for label in report.labels} | set(report.silent) == {"a", "b", "c", "d"}
        assert [step[0] for step in seen] == [1, 2, 3, 4, 5, 6]
        assert {step[1] for step in seen} == {6}

    def test_a_renamed_video_keeps_its_labels_and_its_part(self, videos, models, tmp_path):
        first = run({"a": videos / "a.mp4"}, models, tmp_path)
        shutil.copy(videos / "a.mp4", tmp_path / "kitchen.mp4")
        second = run({"kitchen": tmp_path / "kitchen.mp4"}, models, tmp_path)
        assert len(list((tmp_path / "work").iterdir())) == 1
        assert [x.query for x in first.labels] == [x.query for x in second.labels]
        assert second.labels[0].qid == "kitchen-0"

    def test_real_videos(self, data_folder, models, tmp_path):
        names = ("bikes.mp4", "realshort.mp4", "keyboard_rot90.mov", "newtonscradle.gif")
        found = {Path(name).stem: data_folder / "videos" / name for name in names}
        report = run(found, models, tmp_path)
        assert report.failures == {}
        check_trainable(report.labels)
        assert {label.vid for label in report.labels} | set(report.silent) == set(found)
