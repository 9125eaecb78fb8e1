"""From labels to a model folder to moments, with a tiny random CLIP on real mp4 files."""

import importlib
import json
import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HANG
from peft import PeftModel

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.names import MANIFEST
from zsvg.errors import ModelFolderError, RecipeError, RecordError, ZsvgError
from zsvg.evaluation.metrics import evaluate
from zsvg.features import extract as features
from zsvg.features.extract import extract
from zsvg.grounding.alignment import AMOUNTS
from zsvg.grounding.calibration import logits_of
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.grounding.presence import TRUE, Presence
from zsvg.grounding.ranking import USUAL, fit
from zsvg.grounding.share import SHARES
from zsvg.microworld.world import truth, write_world
from zsvg.moments import iou
from zsvg.training.from_recipe import build_network
from zsvg.training.held_out import _across, _best, _halves, split_by_video
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe, load_recipe, recipe_names
from zsvg.training.tune import plan, tune
from zsvg.video.finding import find_videos
from zsvg.video.sampling import Sampling

pytestmark = pytest.mark.numeric

FAST = {"steps": 4, "batch_size": 4, "validate_every": 2, "warmup": 1}
SMALL_HEAD = {"hidden": 16, "layers": 1, "attention_heads": 2}
OPTIONS = TuneOptions(fps=1.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, domain="studio", videos=4, seed=11, workers=1)
    return find_videos(folder / "videos"), truth("studio", "train", 11, 4)


@pytest.fixture
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")


def recipe(name="coop", template="a video of", **prompts):
    chosen = load_recipe(name)
    return Recipe.model_validate(
        chosen.model_dump()
        | {"template": template, "training": FAST, "head": SMALL_HEAD, "held_out": 0.5}
        | ({"prompts": prompts} if prompts else {})
    )


def make(world, backbone, folder, name="coop", seed=0, **more):
    videos, labels = world
    options = replace(OPTIONS, seed=seed)
    return tune(labels, videos, backbone, folder, recipe=recipe(name), options=options,
                cache=folder.parent / "features", **more)  # fmt: skip


@pytest.mark.parametrize("name", ["coop", "vpt", "head-only"])
def test_a_tuned_folder_loads_and_answers_like_the_network_that_was_tuned(
    world, backbone, tmp_path, name
):
    outcome = make(world, backbone, tmp_path / "model", name)
    assert backbone.adapters is None
    assert 0 <= outcome.held_out <= 1
    files = {p.name for p in (tmp_path / "model").iterdir()}
    expected = {"zsvg.json", "head.safetensors", "presence.safetensors"}
    expected |= {"history.json", "README.md"}
    if name != "head-only":
        expected |= {"adapter_config.json", "adapter_model.safetensors"}
    if outcome.alignment:
        expected |= {"alignment.safetensors"}
    assert files == expected
    assert not (tmp_path / "model.checkpoint").exists()
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    assert (grounder.share, grounder.amount) == (outcome.share, outcome.alignment)


@pytest.mark.parametrize("name", ["coop", "head-only"])
def test_what_is_chosen_on_held_out_labels_is_scored_on_others(world, backbone, tmp_path, name):
    videos, labels = world
    held = labels
    outcome = make(world, backbone, tmp_path / "model", name, validation=held)
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    vids = sorted({a.vid for a in held})
    assert len(vids) > 1

    def overlaps(share, amount):
        grounder.manifest |= {"share": share, "alignment": amount}
        found, failures = predict(grounder, held, videos)
        assert not failures
        return np.array(
            [
                iou([w[:2] for w in p.pred_relevant_windows[:1]], a.relevant_windows).max()
                for p, a in zip(found, held, strict=True)
            ]
        )

    amounts = AMOUNTS if grounder.alignment is not None else (0.0,)
    tried = {(s, a): overlaps(s, a) for a in amounts for s in SHARES}
    free = tried[0.0, 0.0]
    assert free.mean() == pytest.approx(outcome.training_free, abs=1e-3)  # windows are rounded
    told = {(s, a): row.sum() - 50 * (0.06 * s**2 + 0.08 * a**2) for (s, a), row in tried.items()}
    assert told[outcome.share, outcome.alignment] == pytest.approx(max(told.values()), abs=2e-2)
    assert ("aligned" in grounder.manifest["held_out"]) == (outcome.alignment > 0)
    if outcome.gain is None:  # of a few videos an interval would mean nothing
        assert len(vids) < 5
        return
    mean, low, high = outcome.gain
    assert mean == pytest.approx(outcome.held_out - outcome.training_free, abs=1e-5)
    assert low <= mean <= high


@pytest.mark.parametrize(
    ("videos", "held"), [(2, 1), (3, 1), (5, 1), (6, 2), (9, 2), (13, 2), (17, 3), (180, 27)]
)
def test_whole_videos_are_held_out_and_two_where_they_can_be_spared(world, videos, held):
    some = [replace(world[1][0], vid=f"{i % videos}") for i in range(3 * videos)]
    training, apart = split_by_video(some, 0.15, 0)
    assert len({a.vid for a in apart}) == held
    assert not {a.vid for a in apart} & {a.vid for a in training}
    assert len(training) + len(apart) == len(some)


def test_one_held_out_video_chooses_nothing(world, backbone, tmp_path):
    videos, labels = world
    two = sorted(videos)[:2]
    some = [label for label in labels if label.vid in two]
    outcome = make((videos, some), backbone, tmp_path / "model", "head-only")
    assert (outcome.share, outcome.alignment) == (0.0, 0.0)
    assert outcome.held_out == outcome.training_free
    assert "one alone is not asked" in " ".join(outcome.summary())
    tuned, _ = predict(zsvg.load(tmp_path / "model", backbone=backbone), labels, videos)
    free, _ = predict(Grounder(backbone, fps=OPTIONS.fps), labels, videos)
    for ours, bare in zip(tuned, free, strict=True):
        (moment, *_), (other, *_) = ours.pred_relevant_windows, bare.pred_relevant_windows
        assert moment[:2] == pytest.approx(other[:2], abs=1 / OPTIONS.fps)  # within a clip


def test_settings_are_scored_where_they_were_not_chosen():
    """Two amounts and all shares on labels of two halves that want different ones."""
    half = _halves(["b", "a", "b", "a", "c", "c"])
    assert half.tolist() == [True, False, True, False, False, False]
    tried = np.full((600, 2, len(SHARES)), 0.3)
    first = np.arange(600) % 2 == 0
    tried[first, 1, 0] = 0.9  # these want sentences aligned
    tried[~first, 0, 2] = 0.8  # and those half of the head
    tried[first, 0, 2] = 0.2
    tried[~first, 1, 0] = 0.1
    assert _best(tried[first], 600) == (1, 0)
    assert _best(tried[~first], 600) == (0, 2)
    crossed = _across(tried, first)
    np.testing.assert_allclose(crossed[first], 0.2)
    np.testing.assert_allclose(crossed[~first], 0.1)
    # Of one video there is nothing else to choose on, so nothing is chosen.
    np.testing.assert_allclose(_across(tried[first], _halves(["a"] * 300)), 0.3)
    # A few lucky labels move nothing, and what nothing tells apart stays with similarity.
    assert _best(tried[first][:4], 4) == (1, 0)
    lucky = np.full((3, 2, len(SHARES)), 0.3)
    lucky[:, :, -1] = 0.9
    assert _best(lucky, 3) == (0, 0)
    assert _best(np.full((300, 2, len(SHARES)), 0.3), 300) == (0, 0)


def test_an_adapter_loads_with_plain_peft_bit_for_bit_and_disabled_it_is_the_bare_backbone(
    world, backbone, tiny_clip_folder, tmp_path
):
    make(world, backbone, tmp_path / "model")
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    query = "a red circle spins"
    ours = grounder.encode_query(query).pooled
    fresh = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    ids = fresh.tokenize([f"a video of {query}"])
    bare = fresh.encode_tokens(ids).pooled
    importlib.import_module("zsvg.tuners")  # registers the tuner with PEFT
    peft = PeftModel.from_pretrained(fresh.model, str(tmp_path / "model"))
    with torch.no_grad():
        assert torch.equal(fresh.encode_tokens(ids, model=peft).pooled, ours)
        assert not torch.equal(ours, bare)
        with peft.disable_adapter():
            assert torch.equal(fresh.encode_tokens(ids, model=peft).pooled, bare)
    assert torch.equal(Grounder(backbone).encode_query(query).pooled, bare)


def test_threads_that_share_a_backbone_get_the_serial_answers(world, backbone, tmp_path):
    videos, _ = world
    models = []
    for seed in (0, 1):
        make(world, backbone, tmp_path / f"model{seed}", seed=seed)
    for seed in (0, 1):
        models.append(zsvg.load(tmp_path / f"model{seed}", backbone=backbone))
    models.append(Grounder(backbone, fps=1.0))
    encoded = models[0].encode(next(iter(videos.values())))
    queries = [
        f"a {colour} {shape} spins" for colour in ("red", "blue") for shape in ("star", "box")
    ]
    serial = {(m, q): models[m].ground(encoded, q) for m in range(3) for q in queries}
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(12):
            key = (int(rng.integers(3)), queries[int(rng.integers(4))])
            answer = models[key[0]].ground(encoded, key[1])
            if answer.moments != serial[key].moments:
                wrong.append(key)
            if not np.array_equal(answer.curve, serial[key].curve):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert serial[0, queries[0]].moments != serial[1, queries[0]].moments


def test_a_video_seen_through_prompts_is_refused_by_others(world, backbone, tmp_path):
    videos, _ = world
    make(world, backbone, tmp_path / "seeing", "vpt")
    make(world, backbone, tmp_path / "reading", "coop")
    seeing = zsvg.load(tmp_path / "seeing", backbone=backbone)
    reading = zsvg.load(tmp_path / "reading", backbone=backbone)
    path = next(iter(videos.values()))
    with pytest.raises(ValueError, match="encoded by another model"):
        reading.ground(seeing.encode(path), "a red circle")
    with pytest.raises(ValueError, match="encoded by another model"):
        seeing.ground(reading.encode(path), "a red circle")
    # Text prompts leave frames alone: one encoding serves every such model and the bare backbone.
    assert reading.ground(Grounder(backbone, fps=1.0).encode(path), "a red circle").moments


def test_loading_onto_another_backbone_is_an_error_that_says_which(
    world, backbone, tiny_clip_folder, tmp_path
):
    make(world, backbone, tmp_path / "model")
    other = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    other.fingerprint = "f" * 64
    with pytest.raises(ModelFolderError, match=r"made for .*ffffffffffff"):
        zsvg.load(tmp_path / "model", backbone=other)
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "model", broken)
    (broken / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFolderError, match=r"head\.safetensors"):
        zsvg.load(broken, backbone=backbone)
    manifest = json.loads((broken / "zsvg.json").read_text()) | {"format_version": 99}
    (broken / "zsvg.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFolderError, match="format 99"):
        zsvg.load(broken, backbone=backbone)
    with pytest.raises(ModelFolderError, match=r"no zsvg\.json"):
        zsvg.load(tmp_path)


def test_a_seed_repeats_to_the_byte(world, backbone, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(world, backbone, tmp_path / name / "model", seed=3)
    for file in (tmp_path / "a" / "model").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "model" / file.name).read_bytes(), file.name


def test_query_blind_never_reads_the_sentence(world, backbone, tmp_path):
    videos, _ = world
    make(world, backbone, tmp_path / "blind", query_blind=True)
    grounder = zsvg.load(tmp_path / "blind", backbone=backbone)
    encoded = grounder.encode(next(iter(videos.values())))
    one, two = (grounder.ground(encoded, q) for q in ("a red circle", "the green star leaves"))
    assert one.moments == two.moments


def test_labels_that_cannot_be_learned_from_are_refused_by_name(world, backbone):
    videos, labels = world
    first = labels[0]
    for windows, why in (
        (((3.0, 3.0),), "start"),
        (((1.0, first.duration + 5),), "end|past|duration"),
    ):
        bad = [replace(first, relevant_windows=windows), *labels[1:]]
        with pytest.raises(RecordError, match=why) as caught:
            plan(bad, videos, backbone, recipe(), OPTIONS)
        assert str(first.qid) in str(caught.value)
    with pytest.raises(RecordError, match="not in the folder"):
        plan([replace(first, vid="elsewhere"), *labels], videos, backbone, recipe(), OPTIONS)
    with pytest.raises(ZsvgError, match="at least two videos"):
        plan([a for a in labels if a.vid == first.vid], videos, backbone, recipe(), OPTIONS)
    with pytest.raises(ZsvgError, match="no labels"):
        plan([], videos, backbone, recipe(), OPTIONS)


def test_a_folder_that_is_no_model_is_not_overwritten(world, backbone, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    with pytest.raises(ZsvgError, match="not a model folder"):
        make(world, backbone, tmp_path / "precious")
    make(world, backbone, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    (tmp_path / "model" / "README.md").write_text("my own words")
    (tmp_path / "link").symlink_to("model")
    before = (tmp_path / "model" / "head.safetensors").read_bytes()
    outcome = make(world, backbone, tmp_path / "link", seed=1)  # a model folder is replaced whole
    assert outcome.folder == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "model" / "head.safetensors").read_bytes() != before
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"  # and what is not of it stays
    assert (tmp_path / "model" / "README.md.old").read_text() == "my own words"
    assert "Finds moments" in (tmp_path / "model" / "README.md").read_text()
    assert not list(tmp_path.glob(".model*"))
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_backbone_that_carries_prompts_is_not_tuned_on(world, backbone, tmp_path):
    make(world, backbone, tmp_path / "model")
    zsvg.load(tmp_path / "model", backbone=backbone)
    with pytest.raises(ZsvgError, match="already carries prompts"):
        make(world, backbone, tmp_path / "second")


def test_ground_answers_in_seconds_and_rejects_empty_questions(world, backbone):
    videos, _ = world
    grounder = Grounder(backbone, fps=1.0)
    video = grounder.encode(next(iter(videos.values())))
    answer = grounder.ground(video, "a red circle", top_k=3)
    assert 1 <= len(answer.moments) <= 3
    assert all(0 <= m.start < m.end <= video.duration + 1e-6 for m in answer.moments)
    assert answer.curve.shape == answer.centres.shape == (len(video.frames.features),)
    with pytest.raises(ValueError, match="empty"):
        grounder.ground(video, "  ")
    with pytest.raises(ValueError, match="top_k"):
        grounder.ground(video, "a", top_k=0)
    detach_adapters(backbone)  # nothing attached: nothing happens


def test_recipes_that_ship_are_valid_and_mistakes_are_named(tmp_path):
    assert {"coop", "vpt", "coop-vpt", "head-only"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name
    path = tmp_path / "mine.yaml"
    for text, why in (
        ("training: {stepz: 3}", "training.stepz"),
        ("training: {steps: 0}", "training.steps"),
        ("head: {kind: best}", "head: unknown head 'best'; choose one of regression"),
        ("head: {scales: [8]}", "head: scales: not a key of head regression, which has dim"),
        ("head: {hidden: wide}", "head: hidden: Input should be a valid integer"),
        ("head: {hidden: 12}", r"head: hidden 12 must be a multiple of 2 \* attention_heads"),
        (
            "head: {guidance_weight: -1}",
            "head: guidance_weight: Input should be greater than or equal to 0, got -1",
        ),
        ("head: {dim: 8}", "head: dim: follows from backbone and labels"),
        ("[1, 2]", "mapping"),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=why):
            load_recipe(str(path))
    with pytest.raises(RecipeError, match="unknown recipe 'coopp'"):
        load_recipe("coopp")


def test_a_model_says_where_a_moment_may_not_be_and_how_often_it_is_wrong(
    world, backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr("zsvg.grounding.presence.ENOUGH", 2)
    monkeypatch.setattr("zsvg.grounding.presence.LOST", 0.5)
    videos, labels = world
    held = [a for a in labels if a.vid in sorted(videos)[:2]]
    make(world, backbone, tmp_path / "model", validation=held)
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    assert manifest["presence"] is None or Presence.of(manifest).scale is not None
    manifest["presence"] = None
    grounder.manifest["presence"] = None
    asked, _ = predict(grounder, held, videos)
    present = [p.extra["presence"] for p in asked]
    assert all(0 < one < 1 for one in present)
    with pytest.raises(ZsvgError, match="does not know how likely"):
        grounder.sure = 0.5

    known = np.sort(present)  # whatever this tiny model can tell; in its widest gap
    gap = int(np.diff(known).argmax())
    threshold = float(known[gap : gap + 2].mean())
    manifest["presence"] = {"threshold": threshold, "lost": 0.5, "refused": 0.6, "labels": 9}
    (tmp_path / "model" / MANIFEST).write_text(json.dumps(manifest))
    strict = zsvg.load(tmp_path / "model", backbone=backbone)
    found, _ = predict(strict, held, videos)
    told = [{key: p.extra[key] for key in p.extra if key != "parts"} for p in found]
    assert told == [
        {"presence": fit} | ({"absent": True} if fit < threshold else {}) for fit in present
    ]
    assert {"absent" in p.extra for p in found} == {True, False}
    assert [p.pred_relevant_windows for p in found] == [p.pred_relevant_windows for p in asked]
    assert not any(Grounder(backbone).ground(videos[a.vid], a.query).extra for a in held[:2])


def test_only_moments_that_are_likely_enough_are_answered(
    world, backbone, tmp_path, run_zsvg, monkeypatch
):
    monkeypatch.setenv("ZSVG_CACHE", str(tmp_path / "cache"))
    videos, labels = world
    make(world, backbone, tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    held = [a for a in labels if a.vid == labels[0].vid]
    asked, _ = predict(grounder, held, videos)
    logits = np.sort(logits_of([p.extra["presence"] for p in asked]))
    gap = int(np.diff(logits).argmax())
    middle = float(logits[gap : gap + 2].mean())
    # What the head tells apart by little becomes one in ten and nine in ten at the gap's ends.
    slope = 2 * math.log(9) / float(logits[gap + 1] - logits[gap])
    manifest["presence"] = {
        "threshold": 0.01, "lost": 0.05, "refused": 0.6, "labels": 90,
        "slope": slope, "offset": -slope * middle, "brier": 0.1, "error": 0.02,
    }  # fmt: skip
    (tmp_path / "model" / MANIFEST).write_text(json.dumps(manifest))
    likely = zsvg.load(tmp_path / "model", backbone=backbone)
    usual, _ = predict(likely, held, videos)
    likely.sure = 0.5
    found, _ = predict(likely, held, videos)
    assert [p.qid for p in found] == [p.qid for p in usual]
    sure = [p.extra["presence"] >= 0.5 for p in usual]
    assert set(sure) == {True, False}
    for one, other, there in zip(found, usual, sure, strict=True):
        assert one.extra["presence"] == other.extra["presence"]
        assert one.pred_relevant_windows == (other.pred_relevant_windows if there else ())
        assert ("absent" in one.extra) is not there
    likely.sure = 0.0
    assert not any("absent" in p.extra for p in predict(likely, held, videos)[0])
    likely.sure = None
    assert predict(likely, held, videos)[0] == usual
    with pytest.raises(ZsvgError, match="from 0 to 1"):
        likely.sure = 1.5

    place, model = str(videos[labels[0].vid]), str(tmp_path / "model")
    texts = [held[sure.index(True)].query, held[sure.index(False)].query]
    common = ["ground", place, *texts, "--model", model, "--format", "jsonl"]
    status, out, error = run_zsvg(*common, "--sure", "0.5")
    assert status == 0, error
    first, second = (json.loads(line) for line in out.splitlines())
    assert first["pred_relevant_windows"]
    assert second["pred_relevant_windows"] == []
    assert second["absent"] is True
    assert f"{texts[1]!r}: no moment is so likely to be there" in error
    assert repr(texts[0]) not in error
    status, _, error = run_zsvg("ground", place, *texts, "--model", model, "--sure", "1")
    assert status == 0
    assert error.count("no moment is so likely") == 2
    status, _, error = run_zsvg("ground", place, texts[0], "--model", "micro", "--sure", "0.5")
    assert status == 1
    assert "does not know how likely its answers are" in error
    assert run_zsvg(*common, "--sure", "2")[0] == 2
    (tmp_path / "model" / "presence.safetensors").unlink()
    with pytest.raises(ModelFolderError, match="is missing; copy the whole folder"):
        zsvg.load(tmp_path / "model", backbone=backbone)


@pytest.mark.parametrize("name", ["coop", "cocoop", "vpt"])
def test_what_sorts_videos_is_half_the_best_answer_and_half_the_best_clip(
    world, backbone, tmp_path, monkeypatch, name
):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    bench = importlib.import_module("benchmark_ranking")
    videos, labels = world
    make(world, backbone, tmp_path / "model", name)
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    video = grounder.encode(videos[labels[0].vid])
    queries = [a.query for a in labels[:3]]
    texts = bench.together([grounder.encode_query(query, video) for query in queries])
    # What all sentences share is asked of the frozen backbone, whatever the prompts are.
    usual = Grounder(backbone, template="").encode_query(USUAL).pooled[0].numpy()
    said = bench.ask(grounder, video, texts)  # many at once, as the benchmark does
    for number, query in enumerate(queries):
        found = grounder.ground(video, query)
        best = fit(video.frames.features, texts.pooled[number].numpy(), usual)
        assert found.fit == pytest.approx((best + said["cosine"][number]) / 2, abs=1e-5)
        assert said["fit"][number] == pytest.approx(found.fit, abs=1e-5)


def test_pseudo_labels_and_annotations_may_be_numbered_alike(world, backbone, tmp_path):
    videos, labels = world
    pseudo = [replace(a, extra={"source": {"proposals": "blocks"}}) for a in labels]
    one = recipe().model_copy(update={"held_out": 0.25})
    outcome = tune([*pseudo, *labels], videos, backbone, tmp_path / "model", recipe=one,
                   options=OPTIONS, cache=tmp_path / "features")  # fmt: skip
    held = [a for a in labels if a.vid in {b.vid for b in split_by_video(labels, 0.25, 0)[1]}]
    predictions, _ = predict(zsvg.load(tmp_path / "model", backbone=backbone), held, videos)
    assert outcome.held_out == pytest.approx(evaluate(predictions, held)["mIoU"], abs=1e-5)


# ---- grounders that share a backbone ------------------------------------------------------------


def seeing_and_reading(world, backbone, folder):
    """Tune two models that see through prompts and one that reads them; return all, loaded."""
    for name, kind, seed in (("one", "vpt", 0), ("two", "vpt", 1), ("read", "coop", 0)):
        make(world, backbone, folder / name, kind, seed=seed)
    return [zsvg.load(folder / name, backbone=backbone) for name in ("one", "two", "read")]


def test_the_backbone_itself_never_sees_or_reads_prompts(world, backbone, tmp_path):
    path = next(iter(world[0].values()))
    text = "a video of a red circle"
    slow = Sampling(fps=1.0)
    before = extract(path, backbone, slow).features, backbone.encode_text([text]).tokens
    for grounder in seeing_and_reading(world, backbone, tmp_path):
        for _ in range(2):  # before and after the grounder has worked
            cache = tmp_path / "fresh"
            made = extract(path, grounder.backbone, slow, cache=cache).features
            np.testing.assert_array_equal(made, before[0])
            shutil.rmtree(cache)
            assert torch.equal(grounder.backbone.encode_text([text]).tokens, before[1])
            grounder.ground(path, "a red circle")
        prompted = grounder.encode(path).frames.features
        assert np.array_equal(prompted, before[0]) is not grounder.prompts.sees_frames
    network = build_network(backbone, recipe("vpt"), 0, world[1])
    detach_adapters(backbone)
    network.attach()  # as training does, without telling the backbone
    np.testing.assert_array_equal(extract(path, backbone, slow).features, before[0])
    network.release()


def test_others_ask_while_a_video_is_decoded_and_every_pass_has_its_own_prompts(
    world, backbone, tmp_path, monkeypatch
):
    videos, _ = world
    path = next(iter(videos.values()))
    models = seeing_and_reading(world, backbone, tmp_path)
    alone = [model.encode(path).frames.features for model in models]
    asked = models[2].encode(path)
    answer = models[2].ground(asked, "a red circle").moments
    batches, heard = features._batches, []

    def others():
        heard.append(models[2].ground(asked, f"a red circle {len(heard)}").moments)
        heard.append(models[2].ground(asked, "a red circle").moments)
        models[1].encode_pictures(np.zeros((1, 32, 32, 3), np.uint8))
        backbone.encode_text(["a red circle"])

    def interrupted(sampler, batch_size):
        for batch in batches(sampler, 2):
            thread = threading.Thread(target=others, daemon=True)
            thread.start()
            thread.join(HANG / 9)
            assert not thread.is_alive(), "the others wait for a whole video"
            yield batch

    monkeypatch.setattr(features, "_batches", interrupted)
    found = models[0].encode(path).frames.features
    assert len(heard) > 2
    assert set(heard[1::2]) == {answer}
    # Passes of another size: equal but for rounding, whereas other prompts move them by far more.
    np.testing.assert_allclose(found, alone[0], atol=2e-3)
    assert np.abs(alone[1] - alone[0]).max() > 2e-2
    assert np.abs(alone[2] - alone[0]).max() > 2e-2


@pytest.mark.parametrize(
    ("name", "passes"), [("head-only", 1), ("coop", 2), ("dapl", 2), ("cocoop", 4)]
)
def test_a_sentence_is_encoded_once_unless_its_prompts_depend_on_the_video(
    world, backbone, tmp_path, monkeypatch, name, passes
):
    videos, labels = world
    labels = [replace(a, extra={**a.extra, "domain": "ab"[n % 2]}) for n, a in enumerate(labels)]
    make((videos, labels), backbone, tmp_path / "model", name)
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    encoded = [grounder.encode(path) for path in list(videos.values())[:3]]
    # Each asked by a grounder that has been asked nothing before.
    expected = [
        zsvg.load(tmp_path / "model", backbone=backbone).ground(video, "a red circle")
        for video in encoded
    ]
    encode, calls = backbone.encode_tokens, []
    monkeypatch.setattr(
        backbone, "encode_tokens", lambda *a, **k: [calls.append(1), encode(*a, **k)][1]
    )
    found = [grounder.ground(video, "a red circle") for video in encoded]
    passes += 1  # the usual sentence; prompts are left out once, for what answers start from
    assert len(calls) == passes
    for one, other in zip(found, expected, strict=True):
        assert one.moments == other.moments
        assert one.presence == other.presence
    if grounder.domains:
        spoken = [grounder.encode_query("a red circle", domain=d).pooled for d in ("a", "b", "a")]
        assert len(calls) == passes + 2
        assert torch.equal(spoken[0], spoken[2])
        assert not torch.equal(spoken[0], spoken[1])
    grounder.template = "a photo of"  # what is remembered is remembered of these words only
    if name == "head-only":
        grounder.ground(encoded[0], "a red circle")
        assert len(calls) == passes + 1


def test_a_model_whose_prompts_were_taken_off_says_so(world, backbone, tmp_path):
    make(world, backbone, tmp_path / "model", "vpt")
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    grounder.ground(next(iter(world[0].values())), "a red circle")
    detach_adapters(backbone)
    for ask in (lambda: grounder.encode("a.mp4"), lambda: grounder.encode_query("a red circle")):
        with pytest.raises(ZsvgError, match="taken off the backbone; load it again"):
            ask()


def test_the_name_micro_is_the_embedded_backbone(world, backbone, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "micro").mkdir()
    assert zsvg.load("micro", "cpu").backbone.name == "micro"
    with pytest.raises(ModelFolderError, match=r"no zsvg\.json"):
        zsvg.load("./micro")
    (tmp_path / "micro").rmdir()
    make(world, backbone, tmp_path / "micro", "head-only")
    for place in ("./micro", tmp_path / "micro", Path("micro"), Path("./micro")):
        assert zsvg.load(place, backbone=backbone).head is not None
    assert not caplog.records
    assert zsvg.load("micro", "cpu").head is None
    assert "./micro" in caplog.text


def test_a_held_out_video_that_is_not_read_again_shifts_no_answer(
    world, backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr("zsvg.grounding.presence.ENOUGH", 1)
    videos, labels = world
    lost, *others = sorted({a.vid for a in labels})[:3]
    held = [a for a in labels if a.vid in (lost, *others)]
    assert held[0].vid == lost  # its answers would have come first
    seen = []

    def recorded(*given, **options):
        seen.append(given)

    encode = Grounder.encode

    def failing(self, video, **options):
        if video == videos[lost]:
            raise OSError(5, "Input/output error", str(video))
        return encode(self, video, **options)

    monkeypatch.setattr("zsvg.training.held_out.calibrate", recorded)
    monkeypatch.setattr(Grounder, "encode", failing)
    outcome = make(world, backbone, tmp_path / "model", validation=held)
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    own, _ = predict(grounder, held, videos)
    assert {p.vid for p in own} == set(others)
    ((presence, kinds, vids),) = seen
    assert set(vids) == set(others)
    count = kinds.count(TRUE)
    assert kinds[:count] == [TRUE] * len(own)
    assert presence[:count] == [p.extra["presence"] for p in own]
    assert len(presence) == len(kinds) == len(vids) > count
    bare, _ = predict(Grounder(backbone, fps=grounder.fps), held, videos)
    assert outcome.training_free == pytest.approx(evaluate(bare, held)["mIoU"], abs=1e-5)
    assert outcome.held_out <= len(own) / len(held)  # the others count as missed
    assert list(outcome.failures) == [lost]
    assert "Input/output error" in outcome.failures[lost]
