"""Richer labels and second opinions: what is asked, how it is read, and which labels it makes.

A stand-in server looks which scene its pictures are of, and answers from the script of the scene.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_captioner import WORDS, write_tiny_blip, write_tiny_llava
from test_endpoint import SECRET, Reply, plain, said, serving, text_of

from zsvg.backbones import chat
from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.questions import NO_PICTURES, NoAnswer, Question
from zsvg.backbones.text_model import load_text_model
from zsvg.errors import BackboneError, RecipeError, ZsvgError
from zsvg.evaluation.audit import audit
from zsvg.label.asking import Asking, Verdict, read_verdict
from zsvg.label.instructions import load_instructions
from zsvg.label.look import Look, fields_of, read_look, response_format
from zsvg.label.one_video import spread
from zsvg.label.opinions import rephrased, verified
from zsvg.label.queries import PseudoQuery, QueryOptions
from zsvg.label.run import default_options, pseudo_label
from zsvg.label.views import between_frames, view_times
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import Scene
from zsvg.microworld.world import plan_video, write_video_file
from zsvg.records import Annotation, read_annotations
from zsvg.training.absent import absent_sentences
from zsvg.training.held_out import hold_out
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import load_recipe

SCRIPTS = Path(__file__).parent.parent / "scripts"


class TestReading:
    def test_one_object_among_other_words(self):
        answer = (
            'Sure! ```json {"sentences": ["a dog runs", " a small  dog runs away ", "a dog runs"], '
            '"who": "a dog", "object": "", "borders": [3, 6], "nearly": "a dog sleeps"} ``` Enjoy.'
        )
        assert read_look(answer, 8) == Look(
            sentences=("a dog runs", "a small dog runs away"),
            who="a dog",
            frames=(2, 5),
            nearly="a dog sleeps",
        )

    @pytest.mark.parametrize(
        ("answer", "sentences"),
        [
            ("A dog runs.", ("A dog runs.",)),
            ('{"sentences": ["a dog \\"runs\\"", "a small dog', ('a dog "runs"',)),
            ('{"sentence": "a dog runs"}', ("a dog runs",)),
            ('{"sentences": []}', ()),
            ('{"sentences": ["1", "2", "3", "4"]}', ("1", "2", "3")),
        ],
    )
    def test_what_is_left_of_an_answer(self, answer, sentences):
        assert read_look(answer, 4) == Look(sentences=sentences)

    @pytest.mark.parametrize(
        "answer", ["", "42 !", "{{{[", '{"sentences": [', '{"who": "a dog"}', '{"sentences": [7]}']
    )
    def test_nonsense_is_no_answer(self, answer):
        with pytest.raises(ValueError, match=r"^an answer"):
            read_look(answer, 4)

    @pytest.mark.parametrize("borders", [[0, 2], [3, 2], [1, 5], [2], "none", None, [1, 2, 3]])
    def test_borders_that_are_none(self, borders):
        answer = json.dumps({"sentences": ["a dog runs"], "borders": borders})
        assert read_look(answer, 4).frames is None

    @pytest.mark.parametrize(
        ("answer", "verdict", "weight"),
        [
            ('{"inside": "yes", "outside": "no"}', (1, 0), 1.0),
            ('{"inside": "Yes.", "outside": "yes"}', (1, 1), 0.5),
            ('{"inside": "partly", "outside": "partly"}', (0.5, 0.5), 0.375),
            ("No, no.", (0, 0), 0.0),
        ],
    )
    def test_a_verdict_is_a_weight(self, answer, verdict, weight):
        found = read_verdict(answer)
        assert (found.inside, found.outside) == verdict
        assert found.weight == weight
        assert found.absent == (verdict == (0, 0))

    @pytest.mark.parametrize("answer", ["yes", "perhaps", '{"inside": "yes"}', "yes no yes"])
    def test_half_a_verdict_is_none(self, answer):
        with pytest.raises(ValueError, match="does not say"):
            read_verdict(answer)


class TestBorders:
    @pytest.mark.parametrize(
        ("view", "frames", "span"),
        [
            ("around", (2, 5), (10, 18)),  # the event itself
            ("around", (0, 7), (6, 20)),  # half of its length more on each side, up to the end
            ("around", (3, 7), (12, 20)),
            ("strip", (0, 3), (10, 18)),
            ("strip", (1, 2), (12, 16)),
            ("ends", (0, 1), (10, 18)),
            ("ends", (1, 1), (14, 18)),
            ("middle", (0, 0), (10, 18)),
        ],
    )
    def test_they_lie_halfway_between_frames(self, view, frames, span):
        assert between_frames((10.0, 18.0), view, frames, 20.0) == pytest.approx(span)

    def test_frames_around_an_event_stay_in_the_video(self):
        found = view_times([[0.0, 8.0], [10.0, 18.0]], "around", 19.5)
        assert found.tolist() == [
            [0, 0, 1, 3, 5, 7, 9, 11],
            [7, 9, 11, 13, 15, 17, 19, 19.5],
        ]


class TestSentences:
    def test_an_event_shares_its_weight_and_its_near_miss(self):
        chosen = [
            PseudoQuery(text="a dog runs", span=(0, 4), score=0.5, event=1),
            PseudoQuery(text="a cat sits", span=(4, 9), score=0.4, event=0),
        ]
        looks = [
            Look(sentences=("a cat sits", "a dog runs"), nearly="A cat eats."),
            Look(sentences=("an animal", "a dog runs", "a big dog runs"), nearly="a cat sits"),
        ]
        labels = spread(chosen, looks, [look.sentences for look in looks], QueryOptions())
        assert [label["query"] for label in labels] == [
            "a dog runs",
            "an animal",
            "a big dog runs",
            "a cat sits",  # "a dog runs" is of the other event
        ]
        assert [label["weight"] for label in labels] == [0.333333, 0.333333, 0.333333, 1.0]
        assert [label.get("absent") for label in labels] == [None, None, None, ["A cat eats"]]
        assert {tuple(label["window"]) for label in labels[:3]} == {(0, 4)}


class TestOpinions:
    @pytest.mark.parametrize(
        ("window", "times"),
        [
            ((4.0, 8.0), [4.5, 5.5, 6.5, 7.5, 2, 10, 14, 18]),  # 16 s are left, in four parts
            ((0.0, 20.0), [2.5, 7.5, 12.5, 17.5]),
        ],
    )
    def test_what_the_verifier_is_shown(self, window, times):
        asked: list[Question] = []
        shown: list[list[float]] = []

        class Doubter:
            name, fingerprint, image_size = "doubter", "0", 4

            def answers(self, questions):
                asked.extend(questions)
                return ['{"inside": "partly", "outside": "no"}' for _ in questions]

        def pictures(when: np.ndarray, size: int) -> np.ndarray:
            shown.extend(when.tolist())
            return np.zeros((*when.shape, size, size, 3), np.uint8)

        label = {"query": "a dog runs", "window": list(window), "weight": 0.5, "absent": ["no"]}
        lost: list[str] = []
        (found,) = verified([label], Asking(verifier=Doubter()), 20.0, pictures, lost)
        assert shown == [times]
        assert [question.text.count("a dog runs") for question in asked] == [1, 0]
        assert found["weight"] == 0.25
        assert "absent" not in found  # as it is not sure to be absent
        assert lost == []

    def test_who_does_not_answer_is_believed(self):
        class Mute:
            name, fingerprint, image_size = "mute", "0", 4

            def answers(self, questions):
                return [NoAnswer("silence") for _ in questions]

        def pictures(when: np.ndarray, size: int) -> np.ndarray:
            return np.zeros((*when.shape, size, size, 3), np.uint8)

        label = {"query": "a dog runs", "window": [0.0, 4.0], "absent": ["a dog sits"]}
        lost: list[str] = []
        asking = Asking(rephraser=Mute(), verifier=Mute())
        labels = rephrased([label], asking, lost)
        (found,) = verified(labels, asking, 20.0, pictures, lost)
        assert found == {"query": "a dog runs", "window": [0.0, 4.0]}
        assert len(lost) == 3

    def test_wordings_share_the_weight_and_none_comes_twice(self):
        class Poet:
            name, fingerprint, image_size = "poet", "0", 1

            def answers(self, questions):
                assert all(len(question.pictures) == 0 for question in questions)
                return ['{"sentences": ["A cat sits.", "the dog is running", "more"]}'] * 2

        labels = [
            {"query": text, "window": [start, start + 4.0], "weight": 0.5}
            for text, start in (("a dog runs", 0.0), ("a cat sits", 4.0))
        ]
        found = rephrased(labels, Asking(rephraser=Poet()), [])
        assert [(label["query"], label["weight"], label["window"][0]) for label in found] == [
            ("a dog runs", 0.25, 0.0),
            ("the dog is running", 0.25, 0.0),
            ("a cat sits", 0.5, 4.0),
        ]
        assert found[1]["paraphrase"] == "a dog runs"


class TestInstructions:
    def test_parts_that_are_left_out_are_not_asked_for(self):
        rich = load_instructions("rich")
        assert rich.parts.asked == ("sentences", "who", "object", "borders", "nearly")
        some = rich.only(["nearly"])
        form = response_format(fields_of(some.parts))["json_schema"]["schema"]
        assert form["required"] == list(form["properties"]) == ["sentences", "nearly"]

    def test_mistakes_are_named(self, tmp_path):
        with pytest.raises(RecipeError, match=r"unknown part 'what'.* sentences, who, object"):
            load_instructions("rich").only(["what"])
        with pytest.raises(RecipeError, match=r"unknown labeller 'poor'; choose one of rich, sent"):
            load_instructions("poor")
        own = tmp_path / "own.yaml"
        own.write_text("look: what?\nparts: {sentences: one, colour: one}\n")
        with pytest.raises(RecipeError, match=r"own\.yaml: parts\.colour"):
            load_instructions(str(own))
        own.write_text("look: what?\nparts: {sentences: one}\nverify: is it true?\n")
        with pytest.raises(RecipeError, match=r"must hold \{sentence\}"):
            load_instructions(str(own))

    def test_options_that_do_not_fit(self):
        rich = Asking(instructions=load_instructions("rich"))
        for more, why in (
            ({"samples": 3}, "--samples draws captions"),
            ({"form": "features"}, "has no sentences"),
        ):
            with pytest.raises(ZsvgError, match=why):
                pseudo_label({}, "micro", "micro", options=default_options(**more), asking=rich)
        with pytest.raises(ZsvgError, match="'micro' takes no instructions"):
            pseudo_label({}, "micro", "micro", asking=rich)
        with pytest.raises(ZsvgError, match="eight pictures"):
            pseudo_label({}, "micro", "micro", options=default_options(view="around"))


class TestLocalModels:
    def test_several_pictures_are_several_images(self, tmp_path, monkeypatch):
        model = load_captioner(str(write_tiny_llava(tmp_path / "llava")), "cpu")
        shown: list[Any] = []
        generate = model.model.generate

        def spy(**inputs: Any) -> Any:
            shown.append(inputs["pixel_values"].shape[0])
            return generate(**inputs)

        monkeypatch.setattr(model.model, "generate", spy)
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
        fields = {"max_tokens": 5, "response_format": {}}
        questions = [Question(frames, "what ?", fields), Question(frames[:1], "what ?", fields)]
        first = model.answers(questions)
        assert shown == [5, 1]
        assert all(isinstance(answer, str) and answer for answer in first)
        assert model.answers(questions[::-1]) == first[::-1]  # none depends on the others

        def never(text: str) -> None:
            raise ValueError("an answer that nobody wants")

        (none,) = model.answers([Question(frames, "what ?", fields, never)])
        assert isinstance(none, NoAnswer)

    def test_a_captioner_takes_no_questions(self, tmp_path):
        model = load_captioner(str(write_tiny_blip(tmp_path / "blip")), "cpu")
        assert not model.takes_questions
        with pytest.raises(BackboneError, match="no chat template"):
            model.answers([Question(NO_PICTURES, "what?", {"max_tokens": 5})])

    def test_a_text_model_says_it_in_other_words(self, tmp_path):
        model = load_text_model(str(write_tiny_text_model(tmp_path / "text")), "cpu")
        question = Question(NO_PICTURES, "person opens door", {"max_tokens": 6})
        (answer,) = model.answers([question])
        assert isinstance(answer, str)
        assert set(answer.split()) <= {*WORDS, "USER", "ASSISTANT", ":"}
        assert model.answers([question]) == [answer]

    def test_what_is_no_text_model(self, tmp_path):
        with pytest.raises(BackboneError, match="unknown text model 'gpt'"):
            load_text_model("gpt")
        folder = write_tiny_text_model(tmp_path / "text")
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(BackboneError, match="no chat template"):
            load_text_model(str(folder), "cpu")


def write_tiny_text_model(folder: Path) -> Path:
    """Write a random language model that follows a chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    words = ["<pad>", "<unk>", "<s>", "</s>", *WORDS, "USER", "ASSISTANT", ":"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = (
        "{% for m in messages %}USER : {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT :{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


SCENES = [plan_video("chalk", "train", 5, index)[0] for index in range(2)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for scene in SCENES:
        write_video_file(scene, folder / f"{scene.vid}.mp4")
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no key of whoever runs the tests, a single repetition, and the scripts at hand."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(chat, "RETRIES", 1)
    monkeypatch.syspath_prepend(str(SCRIPTS))


class Ideal:
    """Replies from the script of the scene whose pictures are shown."""

    def __init__(self) -> None:
        ideal = importlib.import_module("ideal_labeller")
        self.times = ideal._times
        self.labellers = {}
        for scene in SCENES:
            self.labellers[scene.vid] = labeller = ideal.IdealLabeller()
            labeller.scene = scene

    def __call__(self, body: dict[str, Any]) -> Reply:
        return said(self.labellers[self.shown(body).vid].answer(text_of(body)))

    def shown(self, body: dict[str, Any]) -> Scene:
        """The scene that looks like the first picture, or whose sentence stands in the question."""
        text = text_of(body)
        pictures = [p for p in body["messages"][0]["content"] if p["type"] == "image_url"]
        if not pictures:
            return next(s for s in SCENES if any(w in text for w in self.labellers[s.vid].said))
        data = base64.b64decode(pictures[0]["image_url"]["url"].partition(",")[2])
        picture = Image.open(io.BytesIO(data))
        time = self.times(text)[0]

        def off(scene: Scene) -> float:
            drawn = Image.fromarray(Renderer(scene).frame(time)).resize(picture.size)
            return float(np.abs(np.asarray(drawn, float) - np.asarray(picture, float)).mean())

        return min(SCENES, key=off)


def line(videos: Path, name: str, out: Path, *more: str) -> list[str]:
    fixed = ["--backbone", "micro", "--captioner", name, "--cache", str(out.parent / "cache")]
    few = ["--count", "6", "--min-score", "-1"]
    return ["pseudo-label", str(videos), *fixed, *few, "-o", str(out), *more]


def truly(label: Annotation, sentence: str) -> bool:
    """Whether a sentence of the grammar is true of the video of a label, by its script."""
    language = importlib.import_module("zsvg.microworld.language")
    scene = next(scene for scene in SCENES if scene.vid == label.vid)
    found = False
    for event in scene.events:
        colours = language.COLOUR_WORDS[event.thing.colour]
        shapes = language.SHAPE_WORDS[event.thing.shape]
        acts = [form for pair in language.ACTION_WORDS[event.action] for form in pair]
        found |= all(any(w in sentence for w in words) for words in (colours, shapes, acts))
    return found


class TestCommand:
    def test_one_look_gives_all_parts(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        with serving(Ideal()) as server:
            status, _, told = run_zsvg(*line(videos, server.name, out, "--ask", "rich"))
            assert status == 0, told
            asked = len(server.asked)
            status, _, again = run_zsvg(*line(videos, server.name, out, "--ask", "rich"))
        assert len(server.asked) == asked
        assert "0 answers" in again
        for body in server.asked:
            pictures = [p for p in body["messages"][0]["content"] if p["type"] == "image_url"]
            assert len(pictures) == 8
            assert body["response_format"]["type"] == "json_schema"
            assert "Pictures 3 to 6 show the moment" in text_of(body)
        labels = read_annotations(out)
        events = {(label.vid, label.extra["source"]["event"]) for label in labels}
        assert len(labels) > 2 * len(events) > 4
        for vid, event in events:
            own = [a for a in labels if (a.vid, a.extra["source"]["event"]) == (vid, event)]
            assert sum(a.extra["weight"] for a in own) == pytest.approx(1, abs=1e-5)
            assert len({a.relevant_windows for a in own}) == 1
        misses = [(a, text) for a in labels for text in a.extra.get("absent", ())]
        assert misses
        assert not any(truly(label, text) for label, text in misses)
        # `tune` reads them; all sentences are alike here, so that it finds no others.
        alike = {label.query: np.ones(1, np.float32) for label in labels}
        told = [tuple(label.extra.get("absent", ())) for label in labels]
        assert absent_sentences(labels, alike, 0) == [{"told": own} if own else {} for own in told]

    def test_borders_move_towards_the_truth(self, videos, tmp_path, run_zsvg):
        truth = [
            Annotation(qid=f"{s.vid}-{i}", query="it", vid=s.vid, duration=s.duration,
                       relevant_windows=((e.start, e.end),))
            for s in SCENES for i, e in enumerate(s.events)
        ]  # fmt: skip
        precision = {}
        with serving(Ideal()) as server:
            for parts in ("sentences", "borders"):
                out = tmp_path / parts / "pseudo.jsonl"
                out.parent.mkdir()
                run = line(videos, server.name, out, "--ask", "rich", "--parts", parts)
                assert run_zsvg(*run)[0] == 0
                found = audit(read_annotations(out), truth).values
                precision[parts] = found["precision"]["own"]["mean"]
        assert precision["borders"] > precision["sentences"] + 0.02

    def test_other_words_and_a_second_opinion(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        with serving(Ideal()) as server:
            more = ["--ask", "sentence", "--rephrase", server.name, "--verify", server.name]
            status, _, told = run_zsvg(*line(videos, server.name, out, *more))
        assert status == 0, told
        labels = read_annotations(out)
        ways = [a for a in labels if "paraphrase" in a.extra["source"]]
        assert len(ways) > len(labels) / 2
        for label in ways:
            first = next(a for a in labels if a.query == label.extra["source"]["paraphrase"])
            assert first.relevant_windows == label.relevant_windows
            assert first.extra["weight"] == label.extra["weight"]
        for label in labels:
            inside, outside = label.extra["source"]["verdict"]
            assert label.extra["weight"] == pytest.approx(
                Verdict(inside=inside, outside=outside).weight / 3, abs=1e-5
            )
        assert {tuple(a.extra["source"]["verdict"]) for a in labels} > {(1.0, 0.0)}

    def test_a_plain_captioner_is_verified_too(self, videos, tmp_path, run_zsvg):
        def no(body: dict[str, Any]) -> Reply:
            return said('{"inside": "no", "outside": "no"}')

        out = tmp_path / "pseudo.jsonl"
        with serving(no) as server:
            status, _, told = run_zsvg(*line(videos, "micro", out, "--verify", server.name))
        assert status == 0, told
        labels = read_annotations(out)
        assert labels
        assert {label.extra["weight"] for label in labels} == {0.0}


def once_in(every: int, bad: Callable[[], Reply], good: Callable[[dict[str, Any]], Reply]):
    """A server that replies something else to some of the looks: always to the same ones."""

    def reply(body: dict[str, Any]) -> Reply:
        marked = round(10 * importlib.import_module("ideal_labeller")._times(text_of(body))[2])
        return bad() if marked % every == 0 else good(body)

    return reply


class TestFaults:
    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (lambda: plain('{"error": "busy"}', 429), "busy"),
            (lambda: plain('{"error": "broken"}', 500), "broken"),
            (lambda: said('{"sentences": ['), "broken JSON"),
            (lambda: said("{}"), "without sentences"),
            (lambda: said("#%! 123"), "without words"),
        ],
    )
    def test_a_bad_answer_costs_one_event(self, videos, tmp_path, run_zsvg, monkeypatch, bad, why):
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        out = tmp_path / "pseudo.jsonl"
        ideal = Ideal()
        with serving(once_in(2, bad, ideal)) as server:
            run = line(videos, server.name, out, "--ask", "rich")
            status, printed, told = run_zsvg(*run)
            assert status == 1
            assert why in told
            server.reply = ideal
            asked = len(server.asked)
            status, _, again = run_zsvg(*run)
        assert status == 0, again
        lost = told.count(" s: ")
        assert lost > 0
        assert len(server.asked) - asked == lost
        assert SECRET not in printed + told + again
        for file in tmp_path.rglob("*"):
            assert file.is_dir() or SECRET.encode() not in file.read_bytes()

    def test_silence_costs_one_event(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        ideal = Ideal()

        def silent() -> Reply:
            import time

            time.sleep(2)
            return said("late")

        with serving(once_in(2, silent, ideal)) as server:
            more = ("--ask", "rich", "--timeout", "1")
            status, _, told = run_zsvg(*line(videos, server.name, out, *more))
        assert status == 1
        assert "no answer within 1 s" in told

    def test_a_server_that_takes_no_schema_is_asked_without(self, videos, tmp_path, run_zsvg):
        ideal = Ideal()

        def refuse(body: dict[str, Any]) -> Reply:
            if "response_format" in body:
                detail = "Unsupported fields in the request: {'response_format'}"  # of transformers
                return plain(json.dumps({"detail": detail}), 422)
            return ideal(body)

        out = tmp_path / "pseudo.jsonl"
        with serving(refuse) as server:
            status, _, told = run_zsvg(*line(videos, server.name, out, "--ask", "rich"))
        assert status == 0, told
        assert told.count("takes no response_format") == 1
        assert any("absent" in label.extra for label in read_annotations(out))

    def test_options_that_do_not_fit(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        for more, why in (
            (("--parts", "who"), "--parts who is of --ask"),
            (("--paraphrases", "2"), "is of --rephrase"),
            (("--timeout", "3"), "are of a captioner behind an endpoint"),
            (("--ask", "poor"), "unknown labeller 'poor'"),
            (("--ask", "s3://b/ask.yaml"), "s3://b/ask.yaml: a labeller must lie on a disk"),
            (("--rephrase", "gpt"), "unknown text model 'gpt'"),
            (("--verify", "gpt"), "unknown captioner 'gpt'"),
            (("--ask", "rich"), "takes no instructions; leave --ask out"),
            (("--verify", "micro"), "takes no instructions; leave --verify out"),
        ):
            status, _, told = run_zsvg(*line(videos, "micro", out, *more))
            assert status == 1, more
            assert why in told

    def test_dry_run_counts_all_questions(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        name = "openai:m@http://127.0.0.1:9/v1"
        more = ["--ask", "rich", "--rephrase", name, "--verify", name, "--dry-run"]
        status, _, told = run_zsvg(*line(videos, name, out, *more))
        assert status == 0, told
        assert "at most 12 requests with 96 images" in told  # 2 videos, 6 events, 8 pictures
        assert "at most 60 requests with 0 images" in told  # 2 videos, 10 labels, 3 sentences
        assert "at most 80 requests with 640 images" in told  # those and 10 near misses each


def test_the_weights_of_labels_are_audited():
    def record(window: tuple[float, float], **extra: Any) -> Annotation:
        return Annotation(qid=str(window), query="it", vid="v", duration=20.0,
                          relevant_windows=(window,), extra=extra)  # fmt: skip

    truth = [record((0.0, 8.0))]
    labels = [record((0.0, 8.0), weight=0.75), record((12.0, 16.0), weight=0.25)]
    found = audit(labels, truth)
    assert found.values["precision"]["own"]["mean"] == pytest.approx(0.5)
    assert found.values["precision"]["weighted"]["mean"] == pytest.approx(0.75)
    assert any("by the weights" in row[0] for row in found.rows())
    nothing = audit([record((0.0, 8.0)), record((12.0, 16.0), weight=0.0)], truth)
    assert nothing.values["weightless"] == 1
    assert "1 labels weigh nothing" in nothing.notes()
    assert "weighted" not in audit([record((0.0, 8.0))], truth).values["precision"]


def test_labels_that_weigh_nothing_are_not_trained_on():
    def record(vid: str, weight: float) -> Annotation:
        return Annotation(qid=vid, query="it", vid=vid, duration=20.0,
                          relevant_windows=((0.0, 8.0),), extra={"weight": weight})  # fmt: skip

    recipe, options = load_recipe("coop"), TuneOptions()
    labels = [record("a", 1.0), record("b", 0.0), record("c", 0.5)]
    training, held = hold_out(labels, None, recipe, options)
    assert sorted(label.vid for label in [*training, *held]) == ["a", "c"]
    assert hold_out(labels, [record("d", 1.0)], recipe, options)[0] == [labels[0], labels[2]]
    with pytest.raises(ZsvgError, match="all labels have the weight 0"):
        hold_out([record("a", 0.0), record("b", 0.0)], None, recipe, options)
