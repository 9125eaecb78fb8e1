"""PPT: learned tokens behind the query, on real and tiny tokenizers, and the head they point in."""

import warnings

import open_clip
import pytest
import torch
from peft import get_peft_model
from test_heads import make_inputs
from test_tuner_matrix import siglip_tokens

from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError, RecipeError
from zsvg.heads.encoder import Truth
from zsvg.heads.pointing import PointingConfig, PointingHead
from zsvg.tuners import POINTS, PromptConfig, prompt_config_for
from zsvg.tuners.suffix import make_suffix

pytestmark = pytest.mark.numeric

MICRO = load_backbone("micro", "cpu")
TOKENIZERS = {
    "clip": open_clip.SimpleTokenizer(),
    "micro": MICRO.tokenize,
    "siglip": siglip_tokens,
}
SUFFIXES = {"clip": POINTS["ppt"], "micro": POINTS["ppt"], "siglip": "opens [S] the door [E]"}
QUERIES = ["a red dog", "the dog opens a red door", "person"]
every_tokenizer = pytest.mark.parametrize("name", list(TOKENIZERS))


# ---- the suffix ---------------------------------------------------------------------------------


@every_tokenizer
def test_completed_ids_are_those_of_the_whole_text_with_fillers(name):
    tokenizer, text = TOKENIZERS[name], SUFFIXES[name]
    suffix, start = make_suffix(tokenizer, text)
    spoken = text.replace("[S]", "a").replace("[E]", "a")
    whole = tokenizer([f"a video of {query} {spoken}" for query in QUERIES])
    assert torch.equal(suffix.complete(tokenizer([f"a video of {q}" for q in QUERIES])), whole)
    assert start == (0 if name == "siglip" else 1)
    # Both marks are where another word in their place changes the ids.
    for mark, letter in (("[S]", 0), ("[E]", 1)):
        other = text.replace(mark, "red").replace("[S]", "a").replace("[E]", "a")
        moved = tokenizer([f"a video of {query} {other}" for query in QUERIES])
        differing = [(a != b).nonzero().flatten().tolist() for a, b in zip(moved, whole,
                                                                          strict=True)]  # fmt: skip
        assert differing == [[place] for place in suffix.points(whole)[:, letter].tolist()]


def test_the_shipped_suffixes_on_clips_vocabulary():
    tokenizer = TOKENIZERS["clip"]
    for text, learned in zip(POINTS.values(), (2, 2, 2, 4), strict=True):
        suffix, _ = make_suffix(tokenizer, text)
        assert len(suffix.learned) == learned
        assert tokenizer.decode(suffix.ids).split() == [
            "a" if word.startswith("[") else word for word in text.split()
        ]


@every_tokenizer
def test_too_long_a_query_is_cut_and_never_the_suffix(name):
    tokenizer = TOKENIZERS[name]
    suffix, start = make_suffix(tokenizer, SUFFIXES[name])
    ids = tokenizer(["red " * 90, "red dog"])
    length, behind = ids.shape[1], len(suffix.ids)
    with pytest.warns(UserWarning, match=f"1 text is cut to {length - 1 - behind} tokens"):
        whole = suffix.complete(ids)
    assert whole.shape == ids.shape
    assert whole[0, -behind - 1 :].tolist() == [*suffix.ids, suffix.end]
    assert torch.equal(whole[0, : -behind - 1], ids[0, : -behind - 1])
    assert len(set(whole[0, start : -behind - 1].tolist())) == 1
    assert suffix.places(whole).diff(dim=1).eq(1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suffix.complete(ids[1:])


def test_words_that_no_vocabulary_holds_do_not_collide_with_the_marks():
    suffix, _ = make_suffix(MICRO.tokenize, POINTS["ppt"])
    ids = suffix.complete(MICRO.tokenize(["qux a quux a"]))
    assert (ids == 1).sum() == 2 + 4  # unknown: starts, frame, ends, frame
    (points,) = suffix.points(ids).tolist()
    end = ids[0].tolist().index(suffix.end)
    assert points == [end - 6, end - 1]


def test_ids_without_the_suffix_and_wrong_marks_are_refused():
    config = prompt_config_for(MICRO.tokenize, "", suffix="[S] [E]")
    model = get_peft_model(load_backbone("micro", "cpu").model, config)
    bare = MICRO.tokenize(["a red star", "a box"])
    with pytest.raises(ValueError, match=r"must end with the adapter's '\[S\] \[E\]'"):
        model.encode_text(bare)
    with model.disable_adapter():
        model.encode_text(bare)
    model.encode_text(config.complete(bare))
    assert prompt_config_for(MICRO.tokenize, "a video").points(bare) is None
    for text in ("no marks", "[S]", "[S] [E] [S]", "[S] [E] [X]"):
        with pytest.raises(RecipeError, match="needs the words"):
            make_suffix(MICRO.tokenize, text)
    with pytest.raises(RecipeError, match="suffix_ids"):
        PromptConfig(text_tokens=2, suffix="[S] [E]")
    long = prompt_config_for(MICRO.tokenize, "a video of", suffix="a " * 58 + "[S] [E]")
    fresh = load_backbone("micro", "cpu").model
    with pytest.raises(RecipeError, match="text_tokens=3 with 60 behind the query does not fit"):
        get_peft_model(fresh, long)

    def two_tokens(texts):
        return open_clip.tokenize([text.replace("a", "a a") for text in texts])

    with pytest.raises(BackboneError, match="one token of the word 'a'"):
        make_suffix(two_tokens, "[S] [E]")


def test_points_are_the_states_of_the_two_tokens_and_see_the_query():
    backbone = load_backbone("micro", "cpu")
    config = prompt_config_for(backbone.tokenize, "", suffix=POINTS["ppt"])
    model = get_peft_model(backbone.model, config)
    ids = config.complete(backbone.tokenize(["a red star spins", "a blue star spins"]))
    places = config.points(ids)
    with torch.no_grad():
        states = backbone.encode_tokens(ids, model=model, points=places)
        for row, place in enumerate(places):
            assert torch.equal(states.points[row], states.tokens[row, place])
        assert not torch.allclose(states.points[0], states.points[1], atol=1e-3)
        (tokens,) = (p for p in model.parameters() if p.requires_grad)
        assert tokens.shape == (2, 128)
        tokens[1] *= -1  # [E] stands behind [S] in a causal tower
        moved = backbone.encode_tokens(ids, model=model, points=places)
    assert torch.equal(moved.points[:, 0], states.points[:, 0])
    assert not torch.allclose(moved.points[:, 1], states.points[:, 1], atol=1e-3)


# ---- the head -----------------------------------------------------------------------------------


def make_pointing(**options):
    torch.manual_seed(0)
    return PointingHead(PointingConfig(**({"dim": 16, "hidden": 32} | options))).eval()


@torch.no_grad()
def test_a_border_goes_where_its_token_points():
    """Where all frames fit the query alike, [S] and [E] alone decide."""
    head, inputs = make_pointing(), make_inputs(lengths=(30,))
    head.point_gain.fill_(3.0)
    frames = inputs["pooled"][:, None].repeat(1, 30, 1)
    frames[:, 6] += 0.5 * inputs["points"][:, 0]
    frames[:, 17] += 0.5 * inputs["points"][:, 1]
    inputs["frames"] = torch.nn.functional.normalize(frames, dim=-1)
    output = head(**inputs)
    assert output.moments[0, 0].tolist() == pytest.approx([6 / 30, 18 / 30])
    # Exchanged, the end lies before the start, which is no moment.
    inputs["points"] = inputs["points"].flip(1)
    start, end = head(**inputs).moments[0, 0].tolist()
    assert start < end
    head.point_gain.fill_(0.0)
    expected = head(**inputs).moments
    inputs["points"] = torch.nn.functional.normalize(torch.randn(1, 2, 16), dim=-1)
    assert torch.equal(head(**inputs).moments, expected)


def test_both_points_get_a_gradient():
    head, inputs = make_pointing(), make_inputs()
    inputs["points"] = inputs["points"].clone().requires_grad_()
    target = torch.tensor([[0.2, 0.5], [0.1, 0.4], [0.0, 0.6]])
    sum(head.loss(head(**inputs, target=target), Truth(target=target)).values()).backward()
    assert (inputs["points"].grad.abs().sum(-1) > 0).all()


def test_without_points_it_says_so():
    with pytest.raises(ValueError, match="points: ppt"):
        make_pointing()(**make_inputs() | {"points": None})
