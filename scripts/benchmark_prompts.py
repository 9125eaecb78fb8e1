"""What the prompt tuner costs: a training step through PEFT against a hand-written forward.

    OMP_NUM_THREADS=1 python scripts/benchmark_prompts.py --batch 4 --rounds 9

CoOp (the tokens of "a video of") and deep VPT (8 tokens in every block) on open_clip's ViT-B-32
with random weights. Both sides run the same frozen blocks, start from the same prompts, and must
agree in output and gradient before anything is timed; a step is forward, backward and AdamW. The
two take turns within every round; a ratio is that of the medians, and its spread is the middle half
of the rounds' own ratios. The target is a ratio of at most 1.05. On the CPU with one thread it is
CPU time that is measured, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import Tensor, nn

from zsvg.cli.terminal import progress, table
from zsvg.tuners import PromptConfig, prompt_config_for

TEMPLATE = "a video of"
QUERY = "a person opens the door and walks to the table"
TARGET = 1.05

Forward = Callable[[], Tensor]
Side = tuple[Forward, list[nn.Parameter]]


def coop(model: Any, batch: int, device: torch.device) -> tuple[Side, Side, Callable[[], Any]]:
    """Return the two sides, wrapped and by hand, and what takes the prompts off again."""
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    ids = tokenize([f"{TEMPLATE} {QUERY}"] * batch).to(device)
    embedding, blocks = model.token_embedding, model.transformer.resblocks
    config = prompt_config_for(tokenize, TEMPLATE)
    count = config.text_tokens
    tuned = get_peft_model(model, config)
    own = nn.Parameter(embedding.weight[config.init_ids].detach().clone())

    def by_hand() -> Tensor:
        x = embedding(ids)
        x = torch.cat([x[:, :1], own.expand(batch, -1, -1), x[:, 1 + count :]], dim=1)
        x = x + model.positional_embedding
        for block in blocks:
            x = block(x, attn_mask=model.attn_mask)
        x = model.ln_final(x)
        return x[torch.arange(batch, device=device), ids.argmax(-1)] @ model.text_projection

    wrapped = [p for p in tuned.parameters() if p.requires_grad]
    return (lambda: tuned.encode_text(ids), wrapped), (by_hand, [own]), tuned.unload


def vpt(model: Any, batch: int, device: torch.device) -> tuple[Side, Side, Callable[[], Any]]:
    """Return the two sides, wrapped and by hand, and what takes the prompts off again."""
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)
    visual, count = model.visual, 8
    blocks = list(visual.transformer.resblocks)
    tuned = get_peft_model(model, PromptConfig(vision_tokens=count, vision_depth="all"))
    wrapped = [p for p in tuned.parameters() if p.requires_grad]
    own = [nn.Parameter(p.detach().clone()) for p in wrapped]

    def by_hand() -> Tensor:
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(batch, 1, -1), x], dim=1)
        x = visual.ln_pre(x + visual.positional_embedding)
        for index, (block, prompts) in enumerate(zip(blocks, own, strict=True)):
            # The papers add the first prompts in front of the first norm.
            prompts = prompts if index else visual.ln_pre(prompts)
            x = block(torch.cat([x, prompts.expand(batch, -1, -1)], dim=1))[:, :-count]
        return visual.ln_post(x)[:, 0] @ visual.proj

    return (lambda: tuned.encode_image(images), wrapped), (by_hand, own), tuned.unload


def loss_of(features: Tensor) -> Tensor:
    """Return a loss whose gradient reaches every feature."""
    goal = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    return -(F.normalize(features, dim=-1) @ goal).mean()


def check(first: Side, second: Side) -> None:
    """Make sure that both sides compute the same."""
    results = []
    for forward, parameters in (first, second):
        features = forward()
        results.append([features, *torch.autograd.grad(loss_of(features), parameters)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def stepper(side: Side, device: torch.device) -> Callable[[], float]:
    """Return a function that does one training step and returns its seconds."""
    forward, parameters = side
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter

    def step() -> float:
        _finish(device)
        start = clock()
        optimizer.zero_grad()
        loss_of(forward()).backward()
        optimizer.step()
        _finish(device)
        return clock() - start

    return step


def measure(method: str, model: Any, batch: int, rounds: int, device: torch.device) -> list[str]:
    """Return one row of the table."""
    first, second, release = {"coop": coop, "vpt": vpt}[method](model, batch, device)
    try:
        check(first, second)
        steps = [stepper(side, device) for side in (first, second)]
        for step in steps:
            step()
        seconds = np.zeros((rounds, 2))
        with progress(method, rounds) as advance:
            for number in range(rounds):
                for side in (0, 1) if number % 2 else (1, 0):
                    seconds[number, side] = steps[side]()
                advance(number + 1)
    finally:
        release()
    ours, theirs = np.median(seconds, axis=0)
    low, high = np.quantile(seconds[:, 0] / seconds[:, 1], (0.25, 0.75))
    times = [f"{1000 * value:.1f}" for value in (ours, theirs)]
    return [method, *times, f"{ours / theirs:.3f}", f"{low:.3f} to {high:.3f}"]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure both methods."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False).to(device).eval()
    rows = [
        measure(method, model, arguments.batch, arguments.rounds, device)
        for method in ("coop", "vpt")
    ]
    header = ("method", "PEFT ms", "by hand ms", f"ratio (<= {TARGET})", "middle half")
    table(header, rows)


if __name__ == "__main__":
    main()
