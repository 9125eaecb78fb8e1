"""Prompts under torch.compile: one graph, the same features, and errors that stay errors."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from test_tuners import (
    CONDITION,
    DOMAINS,
    IDS,
    IMAGES,
    METHODS,
    QUERIES,
    build,
    close,
    coop,
    shake,
    tokenizer,
)
from torch import Tensor, nn

from zsvg.tuners import condition_on, in_domain

pytestmark = pytest.mark.numeric

KINDS = {name: METHODS[name] for name in ("coop", "cocoop", "dapl", "tvp", "vpt middle", "maple")}
KINDS["ppt"] = lambda: coop(suffix="the [S] door [E]")


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model: nn.Module, graphs: list | None = None):
    """Compile a model into graphs that run as they are: no compiler of C, the same kernels."""

    def keep(graph: nn.Module, inputs: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    return torch.compile(
        lambda *inputs: model(*inputs)[:2], backend="eager" if graphs is None else keep
    )


@pytest.mark.parametrize("method", list(KINDS))
@torch.no_grad()
def test_no_prompt_splits_the_graph_or_changes_its_features(method):
    config = KINDS[method]()
    model, ids = shake(get_peft_model(build(), config)), config.complete(IDS)
    graphs: list = []
    with condition_on(CONDITION), in_domain(DOMAINS):
        found, expected = compiled(model, graphs)(IMAGES, ids), model(IMAGES, ids)[:2]
    assert len(graphs) == 1  # each break would add one
    for some, same in zip(found, expected, strict=True):
        close(some, same)


@torch.no_grad()
def test_a_compiled_model_follows_images_domains_and_adapters():
    domains = {"domains": ["day", "night"], "domain_tokens": 1}
    model = shake(get_peft_model(build(), coop(conditional=True, **domains)))
    model.add_adapter("other", coop(random=True))
    texts = compiled(model)

    def followed() -> Tensor:
        expected = model(IMAGES, IDS)[1]
        close(texts(IMAGES, IDS)[1], expected)
        return expected

    seen = []
    for images, domain in ((CONDITION, "day"), (CONDITION.flip(0), "day"), (CONDITION, "night")):
        with condition_on(images), in_domain(domain):
            seen.append(followed())
    model.set_adapter("other")
    seen.append(followed())
    with model.disable_adapter():
        seen.append(followed())
    assert len({tuple(some.flatten().tolist()) for some in seen}) == 5


@pytest.mark.parametrize("ids", [tokenizer(QUERIES), IDS])
@torch.no_grad()
def test_a_compiled_model_refuses_texts_without_template_or_suffix(ids):
    config = KINDS["ppt"]()
    model = compiled(get_peft_model(build(), config))
    model(IMAGES, config.complete(IDS))
    with pytest.raises(ValueError, match="every text must") as caught:
        model(IMAGES, ids)
    assert "\n" not in str(caught.value)
