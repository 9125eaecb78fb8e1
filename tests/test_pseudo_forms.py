"""Forms of pseudo-queries and their filters: pure functions, and runs of the micro models."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.cli import app
from zsvg.errors import ZsvgError
from zsvg.label.forms import check_tagger, compose, moves, put, simplify, well_said
from zsvg.label.queries import PseudoQuery, QueryOptions, choose, choose_events, fit
from zsvg.label.run import LabelOptions, LabelReport, default_options, pseudo_label
from zsvg.label.tagging import Tagger, lexicon, load_tagger
from zsvg.label.views import caption_events, view_times
from zsvg.microworld.language import vocabulary
from zsvg.microworld.world import truth, write_world
from zsvg.moments import iou
from zsvg.records import FROM_FRAMES, check_trainable, read_annotations, write_annotations
from zsvg.video.finding import find_videos

UNHURRIED = settings(deadline=None)  # the cores may be busy
MICRO = load_tagger("micro")
# The same sentence as Penn's tags and as the Universal ones have it.
PENN = lexicon(
    {"the": "DT", "cat": "NN", "is": "VBZ", "chasing": "VBG", "red": "JJ", "mice": "NNS"}
)
UNIVERSAL = lexicon(
    {"the": "DET", "cat": "NOUN", "is": "AUX", "chasing": "VERB", "red": "ADJ", "mice": "NOUN"}
)
SENTENCES = st.lists(st.sampled_from(vocabulary()), max_size=9).map(" ".join)


class TestTagger:
    def test_micro_knows_every_word_of_microworld(self):
        sides = {"left": "N", "middle": "N", "upwards": "V"}
        expected = {"disc": "N", "two": "N", "drawing": "N", "orange": "ADJ", "tiny": "ADJ"}
        expected |= {"hops": "V", "turning": "V", "is": "X", "see": "X", "in": "X", "to": "X"}
        tags = {word: MICRO.tag(word)[0][1] for word in vocabulary()}
        assert expected | sides == {word: tags[word] for word in expected | sides}
        assert set(tags.values()) == {"N", "V", "ADJ", "X"}

    def test_a_lexicon_looks_words_up_whatever_their_case(self):
        tagger = lexicon({"Cat": "N", "don't": "V", ",": "PUNCT"})
        tagged = tagger.tag("CAT, don't t-shirt.")
        assert tagged == [
            ("CAT", "N"),
            (",", "PUNCT"),
            ("don't", "V"),
            ("t-shirt", "X"),
            (".", "X"),
        ]

    def test_the_fingerprint_is_that_of_the_tags(self):
        one = lexicon({"cat": "N", "sits": "V"})
        assert lexicon({"Sits": "V", "cat": "N"}).fingerprint == one.fingerprint
        assert lexicon({"cat": "N", "sits": "N"}).fingerprint != one.fingerprint

    def test_a_file_is_a_lexicon(self, tmp_path):
        path = tmp_path / "words.json"
        path.write_text('{"cat": "NOUN", "sleeps": "VERB"}')
        assert simplify("the cat sleeps here", load_tagger(path)) == "cat sleeps"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "not JSON"),
            ("[]", "one JSON object"),
            ("{}", "without words"),
            ('{"two words": "N"}', '"two words"'),
            ('{"cat": 3}', '"cat"'),
            ('{"cat": " "}', '"cat"'),
            ('{"cat": "N", "Cat": "V"}', "two tags"),
        ],
    )
    def test_a_file_that_is_none_is_named(self, tmp_path, text, said):
        path = tmp_path / "words.json"
        path.write_text(text)
        with pytest.raises(ZsvgError, match=re.escape(said)) as error:
            load_tagger(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(ZsvgError, match="nowhere"):
            load_tagger(tmp_path / "nowhere.json")


class TestForms:
    def test_nouns_and_verbs_stay_in_order(self):
        for tagger in (PENN, UNIVERSAL):
            assert simplify("the cat is chasing the red mice", tagger) == "cat chasing mice"
        assert simplify("the tiny red circle moves to the left", MICRO) == "circle moves left"
        assert simplify("look , we see", MICRO) == ""

    @UNHURRIED
    @given(SENTENCES)
    def test_what_is_simple_stays(self, sentence):
        simple = simplify(sentence, MICRO)
        assert simplify(simple, MICRO) == simple
        rest = iter(sentence.split())
        assert all(word in rest for word in simple.split())  # in their order

    def test_only_being_and_staying_is_no_action(self):
        assert not moves("the cat is there", PENN)
        assert not moves("the red ring stays still", MICRO)
        assert not moves("find the red ring on the left", MICRO)
        assert moves("the red ring rests", MICRO)
        assert moves("the cat is chasing", PENN)

    def test_captions_become_one_form(self):
        captions = ["a red ring spins", "the blue ring spins", "we see", "the ring is staying"]
        options = QueryOptions(form="simplified")
        assert put(captions, options, MICRO) == ["ring spins", "ring staying"]
        assert put(captions, replace(options, static=False), MICRO) == ["ring spins"]
        assert put(captions, QueryOptions(static=False), MICRO) == captions[:2]
        for unchanged in (QueryOptions(), QueryOptions(form="composed")):
            assert put(captions, unchanged, None) == sorted(captions)

    def test_a_tagger_is_asked_for_where_it_is_needed(self):
        for options in (QueryOptions(form="simplified"), QueryOptions(static=False)):
            with pytest.raises(ZsvgError, match="needs a tagger: give micro, or a JSON file"):
                check_tagger(options, None)
            with pytest.raises(ZsvgError, match="needs a tagger"):
                put(["a"], options, None)
            check_tagger(options, MICRO)
        check_tagger(QueryOptions(form="features", static=False), None)

    def test_broken_records_and_short_captions(self):
        broken = ["the the the", "a cat Cat cat sits", "a cat on a cat on a cat on a cat"]
        fine = ["a cat", "dog dog cat cat", "a cat on a mat on a cat"]
        quality = QueryOptions(quality=True)
        assert [text for text in broken + fine if well_said(text, quality)] == fine
        assert all(well_said(text, QueryOptions()) for text in broken + fine)
        assert not well_said("a cat", QueryOptions(least_words=3))
        assert well_said("a cat sits", QueryOptions(least_words=3))

    def test_order_is_said_of_neighbours_that_do_not_overlap(self):
        cat = PseudoQuery(text="a cat", span=(0, 4), score=0.5)
        dog = PseudoQuery(text="a dog", span=(4, 7), score=0.7)
        cow = PseudoQuery(text="a cow", span=(6, 9), score=0.1)
        assert [(q.text, q.span, q.score, q.form) for q in compose([cat, dog, cow])] == [
            ("a cat", (0, 4), 0.5, "caption"),
            ("a cat before a dog", (0, 4), 0.5, "before"),
            ("a dog", (4, 7), 0.7, "caption"),
            ("a dog after a cat", (4, 7), 0.5, "after"),
            ("a cow", (6, 9), 0.1, "caption"),
        ]
        assert compose([]) == []

    @UNHURRIED
    @given(
        st.lists(
            st.tuples(st.integers(0, 20), st.integers(1, 9), st.floats(-1, 1)),
            max_size=6,
            unique_by=lambda x: x[:2],
        )
    )
    def test_each_before_has_its_after(self, drawn):
        events = sorted((float(s), float(s + n), score) for s, n, score in drawn)
        queries = [
            PseudoQuery(text=f"e{i}", span=(s, e), score=score)
            for i, (s, e, score) in enumerate(events)
        ]
        said = compose(queries)
        assert [q for q in said if q.form == "caption"] == queries
        by_text = {q.text: q for q in queries}
        pairs = {"before": set(), "after": set()}
        for query in said:
            if query.form != "caption":
                one, other = (by_text[text] for text in query.text.split(f" {query.form} "))
                assert query.span == one.span
                assert query.score == min(one.score, other.score)
                first, second = (one, other) if query.form == "before" else (other, one)
                assert first.span[1] <= second.span[0]
                pairs[query.form].add((first.text, second.text))
        assert pairs["before"] == pairs["after"]
        neighbours = pairwise(queries)
        assert len(pairs["before"]) == sum(a.span[1] <= b.span[0] for a, b in neighbours)


class TestChoose:
    centres = np.arange(12) + 0.5

    def drawn(self, seed):
        """Return captions, texts, their features, frames and events of a made-up video."""
        rng = np.random.default_rng(seed)
        frames = rng.normal(size=(12, 4)) + 1
        texts = [f"t{i}" for i in range(6)]
        pooled = rng.normal(size=(6, 4))
        pooled[5] = pooled[0]  # another sentence with the same features
        starts = rng.choice(10, 6)
        events = np.column_stack((starts, starts + rng.integers(1, 3, 6))).astype(float)
        unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (pooled, frames))
        return [[text] for text in texts], texts, *unit, events

    @UNHURRIED
    @given(st.integers(0, 10_000), st.floats(-1, 0.99))
    def test_no_two_sentences_are_more_alike(self, seed, alike):
        captions, texts, pooled, frames, events = self.drawn(seed)
        options = QueryOptions(min_score=-1, overlap=1, alike=alike)
        place = {"events": events, "centres": self.centres}
        kept = choose(captions, texts, pooled, frames, options=options, **place)
        rows = [texts.index(query.text) for query in kept]
        cosines = pooled[rows] @ pooled[rows].T
        assert (cosines[~np.eye(len(rows), dtype=bool)] <= alike + 1e-12).all()
        every = choose(captions, texts, pooled, frames, options=replace(options, alike=1), **place)
        assert len(every) == 6  # equal features are no reason
        for lost in set(every) - set(kept):
            better = [q for q in kept if q.score >= lost.score]
            nearest = pooled[[texts.index(q.text) for q in better]] @ pooled[texts.index(lost.text)]
            assert nearest.max() > alike - 1e-12

    @UNHURRIED
    @given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 1), st.floats(-0.5, 0.5))
    def test_events_alone_are_ranked_by_what_is_seen(self, seed, most, overlap, least):
        captions, texts, pooled, frames, events = self.drawn(seed)
        place = {"events": events, "centres": self.centres}
        options = QueryOptions(per_video=most, overlap=overlap, min_score=least)
        found = choose_events(frames, options=options, **place)
        assert len(found) <= most
        assert [q.span for q in found] == sorted(q.span for q in found)
        for query in found:
            assert query.text == FROM_FRAMES
            assert query.score >= least
            others = [q.span for q in found if q is not query]
            assert not others or iou(np.array([query.span]), np.array(others)).max() <= overlap
        # Of each event's score in `choose`, it is the half that is not the sentence's.
        every = choose_events(frames, options=QueryOptions(min_score=-1, overlap=1), **place)
        scores = {query.span: query.score for query in every}
        lenient = QueryOptions(min_score=-1, overlap=1)
        for query in choose(captions, texts, pooled, frames, options=lenient, **place):
            inside = (self.centres > query.span[0]) & (self.centres < query.span[1])
            said = fit((pooled[texts.index(query.text)] @ frames.T)[None], inside)[0]
            assert scores[query.span] == pytest.approx(2 * query.score - said, abs=1e-9)
        if found:
            assert max(q.score for q in found) == max(scores.values())

    def test_options_are_checked(self):
        for wrong in ({"form": "rhyme"}, {"view": "gif"}, {"least_words": 0}, {"alike": 2}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                QueryOptions(**wrong)
            with pytest.raises(ZsvgError, match=next(iter(wrong))):
                default_options(**wrong)


class TestEnds:
    def test_an_early_and_a_late_moment(self):
        np.testing.assert_allclose(view_times([[0, 8], [8, 12]], "ends"), [[1, 7], [8.5, 11.5]])

    def test_both_ends_are_shown_alone_and_said_in_order(self):
        class Spy:
            def caption(self, images):
                assert [image.shape for image in images] == [(6, 6, 3)] * 8
                assert [image[0, 0, 0] for image in images] == list(range(8))
                return ["a cat sits.", "a cat lies", "A dog", "a dog", "", "a cow", "hm", ""]

            def sample(self, images, samples, *, seed):
                return [["a", "b", "c"], ["x", "b", "c c c"]] * 4

        frames = np.zeros((4, 2, 6, 6, 3), np.uint8)
        frames += np.arange(8, dtype=np.uint8).reshape(4, 2, 1, 1, 1)
        said = caption_events(frames, Spy(), keep=lambda text: text != "hm")
        assert said == [["a cat sits then a cat lies"], ["A dog"], ["a cow"], []]
        quality = QueryOptions(quality=True)
        drawn = caption_events(frames, Spy(), samples=3, keep=lambda text: well_said(text, quality))
        assert drawn == [["a then x", "b", "c"]] * 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered videos; frame features are kept beside them."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, domain="chalk", videos=3, annotations=False)
    return folder


@pytest.fixture(scope="module")
def models():
    return load_backbone("micro", "cpu"), load_captioner("micro", "cpu")


@pytest.fixture(scope="module")
def plain(world, models) -> LabelReport:
    return run(world, models)


def run(world: Path, models, *, tagger: Tagger | None = None, work_dir=None, **queries):
    options = LabelOptions(queries=QueryOptions(**queries))
    videos, cache = find_videos(world / "videos"), world / "cache"
    report = pseudo_label(
        videos, *models, options=options, tagger=tagger, cache=cache, work_dir=work_dir
    )
    assert report.failures == {}
    check_trainable(report.labels)
    return report


def command(monkeypatch, *line: str | Path, status: int = 0) -> str:
    """Run a command line and return what it says."""
    monkeypatch.setattr(sys, "argv", ["zsvg", *map(str, line)])
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == status, said.getvalue()
    return said.getvalue()


class TestRuns:
    def test_plain_captions_are_as_ever(self, world, models, plain):
        assert len(plain.labels) >= 6
        for label in plain.labels:
            source = {"proposals": "blocks", "backbone": "micro", "captioner": "micro"}
            source |= {"caption": label.query, "score": label.extra["source"]["score"]}
            assert label.extra == {"source": source, "weight": 1.0}
        assert run(world, models, quality=True, tagger=MICRO) == plain

    def test_simplified(self, world, models, plain):
        report = run(world, models, form="simplified", tagger=MICRO)
        assert len(report.labels) >= 6
        for label in report.labels:
            assert simplify(label.query, MICRO) == label.query
            assert label.extra["source"]["form"] == "simplified"
        # They are scored as they are.
        scores = {x.relevant_windows: x.extra["source"]["score"] for x in plain.labels}
        both = {x.relevant_windows: x.extra["source"]["score"] for x in report.labels}
        shared = scores.keys() & both.keys()
        assert shared
        assert any(scores[window] != both[window] for window in shared)

    def test_composed_resumes_to_the_same_bytes(self, world, models, plain, tmp_path):
        parts = tmp_path / "parts"
        first = run(world, models, form="composed", work_dir=parts)
        write_annotations(tmp_path / "1.jsonl", first.labels)
        sorted(parts.iterdir())[1].unlink()
        again = run(world, models, form="composed", work_dir=parts)
        write_annotations(tmp_path / "2.jsonl", again.labels)
        assert (tmp_path / "2.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()
        assert len(list(parts.iterdir())) == 3

        forms = [label.extra["source"].pop("form") for label in first.labels]
        assert {forms.count("before")} == {forms.count("after")}
        assert forms.count("before") >= 3
        own = [x for x, form in zip(first.labels, forms, strict=True) if form == "caption"]
        assert [replace(x, qid=0) for x in own] == [replace(x, qid=0) for x in plain.labels]
        known = {(x.vid, x.query): x for x in own}
        for label, form in zip(first.labels, forms, strict=True):
            if form != "caption":
                one, other = label.query.split(f" {form} ", 1)
                assert label.relevant_windows == known[label.vid, one].relevant_windows
                scores = [known[label.vid, text].extra["source"]["score"] for text in (one, other)]
                assert label.extra["source"]["score"] == min(scores)
        assert len({label.qid for label in first.labels}) == len(first.labels)

    def test_features_call_no_captioner(self, world, models, plain, tmp_path):
        class Mute:
            """Fails where it is asked anything."""

            name, fingerprint, options, image_size = "mute", "0", models[1].options, 32

        backbone, _ = models
        report = run(world, (backbone, None), form="features", work_dir=tmp_path)
        files = sorted(tmp_path.iterdir())
        # A captioner that is not asked is no setting.
        assert run(world, (backbone, Mute()), form="features", work_dir=tmp_path) == report
        assert sorted(tmp_path.iterdir()) == files
        assert run(world, (backbone, Mute()), form="features", per_video=1) != report
        assert len(report.labels) >= 6
        for label in report.labels:
            assert label.query == FROM_FRAMES
            source = {"proposals": "blocks", "backbone": "micro", "form": "features"}
            assert label.extra["source"] == {**source, "score": label.extra["source"]["score"]}
            assert label.extra["source"]["score"] >= 0

    def test_ends(self, world, models, plain):
        report = run(world, models, view="ends")
        assert any(" then " in label.query for label in report.labels)
        assert report != plain
        drawn = run(world, models, view="ends", samples=2)
        assert any(" then " in label.query for label in drawn.labels)
        assert run(world, models, view="ends", samples=2) == drawn

    def test_filters(self, world, models, plain):
        backbone, _ = models
        assert any(not moves(label.query, MICRO) for label in plain.labels)
        moving = run(world, models, static=False, tagger=MICRO)
        assert moving.labels
        assert all(moves(label.query, MICRO) for label in moving.labels)
        long = run(world, models, least_words=7)
        assert long.labels
        assert min(len(label.query.split()) for label in long.labels) >= 7
        assert min(len(label.query.split()) for label in plain.labels) < 7

        def closest(report: LabelReport) -> float:
            found = [-1.0]
            for vid in {label.vid for label in report.labels}:
                texts = [label.query for label in report.labels if label.vid == vid]
                pooled = backbone.encode_text(texts).pooled.numpy()
                found.append(float((pooled @ pooled.T - 2 * np.eye(len(texts))).max()))
            return max(found)

        assert closest(plain) > 0.6
        assert -1 < closest(run(world, models, alike=0.6)) <= 0.6 + 1e-5

    def test_the_tagger_is_a_setting_where_it_decides(self, world, models, tmp_path):
        other = Tagger(MICRO.tag, "another name")
        for tagger in (MICRO, other, MICRO):
            run(world, models, form="simplified", tagger=tagger, work_dir=tmp_path / "simplified")
            run(world, models, tagger=tagger, work_dir=tmp_path / "captions")
        assert len(list((tmp_path / "simplified").iterdir())) == 6
        assert len(list((tmp_path / "captions").iterdir())) == 3

    def test_what_is_needed_is_asked_for(self, models, world):
        with pytest.raises(ZsvgError, match="form 'composed' needs a captioner"):
            run(world, (models[0], None), form="composed")
        with pytest.raises(ZsvgError, match="form 'simplified' needs a tagger"):
            run(world, models, form="simplified")


class TestCommand:
    def line(self, world: Path, out: Path, *more: str) -> list[str | Path]:
        start = ["pseudo-label", world / "videos", "--backbone", "micro", "--device", "cpu"]
        return [*start, "--cache", world / "cache", "-o", out, *more]

    def test_features_without_a_captioner(self, world, models, tmp_path, monkeypatch):
        out, form = tmp_path / "out.jsonl", ("--form", "features")
        said = command(monkeypatch, *self.line(world, out, *form, "--dry-run"))
        assert "0 are labelled already, 3 are left" in said
        assert "at most 0 images to caption\n" in said
        assert list(tmp_path.iterdir()) == []
        # Half-way through, the forecast knows what is done, though no captioner left its name.
        expected = run(world, (models[0], None), form="features", work_dir=f"{out}.parts")
        next(Path(f"{out}.parts").iterdir()).unlink()
        said = command(monkeypatch, *self.line(world, out, *form, "--dry-run"))
        assert "2 are labelled already, 1 are left" in said
        command(monkeypatch, *self.line(world, out, *form))
        assert read_annotations(out) == list(expected.labels)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.parts"]
        # Labels without sentences can be looked at and audited.
        true, page = tmp_path / "truth.jsonl", tmp_path / "page.html"
        write_annotations(true, truth("chalk", "train", 0, 3))
        command(monkeypatch, "audit", out, true)
        videos = ("--videos", world / "videos", "--truth", true)
        command(monkeypatch, "inspect", out, *videos, "-o", page)
        assert FROM_FRAMES in page.read_text(encoding="utf-8")

    def test_simplified_by_micro(self, world, models, tmp_path, monkeypatch):
        out, form = tmp_path / "out.jsonl", ("--form", "simplified", "--captioner", "micro")
        said = command(monkeypatch, *self.line(world, out, *form), status=1)
        assert said == (
            "error: form 'simplified' needs a tagger: give micro, or a JSON file {word: tag}\n"
        )
        command(monkeypatch, *self.line(world, out, *form, "--tagger", "micro"))
        expected = run(world, models, form="simplified", tagger=MICRO)
        assert read_annotations(out) == list(expected.labels)
        # The same words from a file are the same tagger.
        words = tmp_path / "words.json"
        words.write_text(json.dumps({word: MICRO.tag(word)[0][1] for word in vocabulary()}))
        assert load_tagger(words).fingerprint == MICRO.fingerprint

    def test_alike_and_ends(self, world, models, tmp_path, monkeypatch):
        out, more = tmp_path / "out.jsonl", ("--view", "ends", "--alike", "0.6")
        line = self.line(world, out, *more, "--captioner", "micro", "--count", "4")
        assert "at most 24 images to caption\n" in command(monkeypatch, *line, "--dry-run")

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            (("--form", "rhyme"), "'rhyme'"),
            (("--alike", "2"), "alike"),
            (("--tagger", "nonsense"), "'nonsense'"),
            (("--form", "composed"), "no captioner is named"),
        ],
    )
    def test_errors_are_one_line(self, world, tmp_path, monkeypatch, more, named):
        said = command(monkeypatch, *self.line(world, tmp_path / "out.jsonl", *more), status=1)
        assert said.startswith("error: ")
        assert named in said
        assert said.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
