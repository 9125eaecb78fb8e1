"""Every recipe that ships tunes and loads again, on a random CLIP deep enough for MaPLe."""

from dataclasses import fields, replace

import pytest
import torch
from conftest import write_tiny_clip

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.errors import RecipeError, RecordError, ZsvgError
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.microworld.world import truth, write_world
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe, load_recipe, load_templates, recipe_names
from zsvg.training.tune import plan, tune
from zsvg.tuners import POINTS
from zsvg.video.finding import find_videos

OPTIONS = TuneOptions(fps=0.5)
# text tokens, text depth, vision tokens, vision depth, coupled, conditional, border in pixels
PUBLISHED = {
    "coop": (3, 1, 0, 1, False, False, 0),
    "cocoop": (4, 1, 0, 1, False, True, 0),
    "vpt": (0, 1, 8, 1, False, False, 0),
    "vpt-deep": (0, 1, 8, 9, False, False, 0),
    "coop-vpt": (3, 1, 4, 9, False, False, 0),
    "independent": (2, 9, 2, 9, False, False, 0),
    "maple": (2, 9, 2, 9, True, False, 0),
    "tvp": (3, 1, 0, 1, False, False, 7),
    "dapl": (4, 1, 0, 1, False, False, 0),
    "ppt": (0, 1, 0, 1, False, False, 0),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, domain="studio", videos=2, seed=5, workers=1)
    labels = truth("studio", "train", 5, 2)
    first = {a.vid: replace(a, extra={"domain": a.vid[-1]}) for a in reversed(labels)}
    return find_videos(folder / "videos"), list(first.values())


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = write_tiny_clip(tmp_path_factory.mktemp("clip") / "deep", layers=9)
    return load_backbone(f"local-dir:{folder}", "cpu")


@pytest.fixture(autouse=True)
def bare(backbone):
    yield
    detach_adapters(backbone)


def small(name):
    fast = {"steps": 4, "batch_size": 2, "validate_every": 2, "warmup": 1}
    recipe = load_recipe(name).model_dump()
    recipe["training"] |= fast
    recipe["head"] |= {"hidden": 16, "layers": 1, "attention_heads": 2}
    return Recipe.model_validate(recipe)


def test_every_prompted_recipe_is_tested():
    assert set(recipe_names()) == {*PUBLISHED, "head-only"}
    assert all(load_recipe(name).source for name in recipe_names())


def test_a_recipe_reaches_every_option_of_training(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {patience: 3, cosine: false, checkpoint_every: 7, average: 0}")
    recipe = load_recipe(str(path))
    options = recipe.training_options(seed=4, mixed_precision="bf16")
    assert (options.patience, options.cosine, options.checkpoint_every) == (3, False, 7)
    own = {field.name for field in fields(options)} - {"seed", "mixed_precision"}
    assert recipe.model_dump()["training"].keys() == own
    assert {name: getattr(options, name) for name in own} == recipe.model_dump()["training"]
    for text, key in (("steps: 0", "steps"), ("seed: 1", "seed"), ("patience: 0", "patience")):
        path.write_text(f"training: {{{text}}}")
        with pytest.raises(RecipeError, match=rf"mine\.yaml: training\.{key}: "):
            load_recipe(str(path))


@pytest.mark.parametrize("name", [*PUBLISHED, "head-only"])
def test_a_shipped_recipe_tunes_and_loads_again(world, backbone, tmp_path, name):
    videos, labels = world
    outcome = tune(labels, videos, backbone, tmp_path / "model", recipe=small(name),
                   options=OPTIONS, cache=tmp_path / "features")  # fmt: skip
    assert not outcome.failures
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    one, two = (grounder.encode(path) for path in videos.values())
    query = labels[0].query
    assert grounder.ground(one, query).moments
    if name == "head-only":
        return
    config = backbone.adapters.peft_config[grounder.adapter]
    assert (
        config.text_tokens, config.text_depth, config.vision_tokens, config.vision_depth,
        config.coupled, config.conditional, config.border,
    ) == PUBLISHED[name]  # fmt: skip
    if name == "cocoop":
        with pytest.raises(ValueError, match="depend on the video"):
            grounder.encode_query(query)
        texts = [grounder.encode_query(query, video).pooled for video in (one, two)]
        assert not torch.equal(*texts)
    if name == "dapl":
        assert grounder.domains == ("0", "1")
        texts = [grounder.encode_query(query, domain=d).pooled for d in ("0", "1", None, "2")]
        assert not torch.equal(texts[0], texts[1])
        assert torch.equal(texts[2], texts[3])
        again = zsvg.load(tmp_path / "model", backbone=backbone, domain="1")
        assert torch.equal(again.encode_query(query).pooled, texts[1])
        # Annotations that name a domain are answered in it.
        asked, _ = predict(grounder, labels, videos)
        for label, answer in zip(labels, asked, strict=True):
            moments = grounder.ground(videos[label.vid], label.query,
                                      domain=label.extra["domain"]).moments  # fmt: skip
            assert answer.pred_relevant_windows[0][0] == round(moments[0].start, 3)
        with pytest.raises(ZsvgError, match="unknown domain 'noon': this model knows 0, 1"):
            zsvg.load(tmp_path / "model", backbone=backbone, domain="noon")


@pytest.mark.parametrize(
    ("points", "more", "learned"),
    [
        ("ppt-ps", {}, 2),
        ("ppt-p", {"conditional": True}, 2),
        ("ppt-pc", {"text": True, "conditional": True}, 4),
    ],
)
def test_variants_of_ppt_tune_and_load_again(world, backbone, tmp_path, points, more, learned):
    videos, labels = world
    recipe = small("ppt")
    recipe = recipe.model_copy(
        update={"prompts": recipe.prompts.model_copy(update={"points": points, **more})}
    )
    tune(labels, videos, backbone, tmp_path / "model", recipe=recipe, options=OPTIONS,
         cache=tmp_path / "features")  # fmt: skip
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    config = backbone.adapters.peft_config[grounder.adapter]
    assert config.suffix == POINTS[points]
    assert len(config.ending.learned) == learned
    assert (config.text_tokens, config.conditional) == (3 if more.get("text") else 0, bool(more))
    one, two = (grounder.encode(path) for path in videos.values())
    assert grounder.ground(one, labels[0].query).moments
    texts = [grounder.encode_query(labels[0].query, video).points for video in (one, two)]
    assert torch.equal(*texts) is not bool(more)


def test_points_need_their_head_and_the_head_needs_points(world, backbone):
    videos, labels = world
    recipe = small("ppt")
    for wrong in (
        recipe.model_copy(update={"head": small("coop").head}),
        recipe.model_copy(update={"prompts": small("coop").prompts}),
    ):
        with pytest.raises(RecipeError, match="belong together"):
            plan(labels, videos, backbone, wrong, OPTIONS)


def test_labels_without_domains_are_refused_where_they_matter(world, backbone):
    videos, labels = world
    lines = plan(labels, videos, backbone, small("dapl"), OPTIONS)
    assert lines[-1] in ("labels by domain: 0 1", "labels by domain: 1 1")
    bare = [replace(label, extra={}) for label in labels]
    assert "domain" not in plan(bare, videos, backbone, small("coop"), OPTIONS)[-1]
    with pytest.raises(ZsvgError, match='"domain": "NAME" to the lines') as caught:
        plan(bare, videos, backbone, small("dapl"), OPTIONS)
    assert "\n" not in str(caught.value)
    wrong = [replace(label, extra={"domain": ["night"]}) for label in labels]
    with pytest.raises(RecordError, match="must be a name"):
        plan(wrong, videos, backbone, small("dapl"), OPTIONS)
    with pytest.raises(ZsvgError, match="this model has no domains"):
        zsvg.load(None, backbone=backbone, domain="night")


def test_conditional_without_text_and_too_deep_are_refused(world, backbone, tiny_clip_folder):
    videos, labels = world
    recipe = small("vpt")
    wrong = recipe.model_copy(
        update={"prompts": recipe.prompts.model_copy(update={"conditional": True})}
    )
    with pytest.raises(RecipeError, match="conditional prompts are text prompts"):
        plan(labels, videos, backbone, wrong, OPTIONS)
    shallow = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    with pytest.raises(RecipeError, match=r"=9 is more than the tower's 3 blocks"):
        plan(labels, videos, shallow, small("maple"), OPTIONS)


def test_templates_are_read_and_checked(tmp_path):
    shipped = load_templates("video")
    assert "a video of {query}" in shipped
    assert len(set(shipped)) == len(shipped) > 1
    file = tmp_path / "own.yaml"
    for text, message in (
        ("templates: [a video]", "'a video' must hold {query} once"),
        ("templates: ['{query} {query}']", "must hold {query} once"),
        ("templates: []", "templates: List should have at least 1 item"),
        ("template: x", "templates: Field required"),
        ("[1]", "a template file is a mapping"),
    ):
        file.write_text(text)
        with pytest.raises(RecipeError, match=message):
            load_templates(str(file))
    with pytest.raises(RecipeError, match="unknown template 'videos'; choose one of video"):
        load_templates("videos")


def test_a_query_is_the_mean_of_its_templates(backbone):
    texts = ("a video of {query}", "{query}")
    grounder = zsvg.load(None, backbone=backbone, templates=texts)
    states = grounder.encode_query("a red ball")
    each = backbone.encode_text(["a video of a red ball", "a red ball"]).pooled
    mean = torch.nn.functional.normalize(each.mean(0), dim=-1)
    torch.testing.assert_close(states.pooled[0], mean)
    assert states.tokens.shape == (1, 1, backbone.embed_dim)
    one = zsvg.load(None, backbone=backbone, templates=texts[:1]).encode_query("a red ball")
    plain = zsvg.load(None, backbone=backbone).encode_query("a red ball")
    assert torch.equal(one.pooled, plain.pooled)
    with pytest.raises(ValueError, match="templates are for a bare CLIP; captions:tfidf"):
        zsvg.load("captions:tfidf", templates=texts)
