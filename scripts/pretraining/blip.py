"""The micro BLIP: four frames of an event laid side by side, and a sentence about it.

It sees stronger augmentation than the micro CLIP, as captioners see more of the world than a
frame-by-frame similarity can use.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pretraining.captions import event_caption
from pretraining.data import (
    BLIP_IMAGE,
    MILD,
    PATCH,
    STRONG,
    Batch,
    as_pixels,
    augment,
    kept_patches,
    none_weight,
    paint,
    shrunk,
    track,
    track_loss,
    training_scene,
    visible,
)
from pretraining.data import WIDTH as BLIP_WIDTH
from pretraining.fit import fit
from pretraining.trunk import GRID, trunk_weights
from zsvg.microworld.language import vocabulary
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import ACTIONS, COLOURS, SHAPES

STEPS, STRIPS, RATE = 6000, 64, 1.2e-3
KEPT = 48  # patches of a strip, of 196; the last steps see all
WHOLE_STEPS = 150
LIGHT_STEPS, LIGHT_RATE = 1500, 5e-4  # a second stage, in which the light changes within a strip
QUARTER = BLIP_IMAGE // PATCH // 2  # patches along the side of one frame of the strip


def blip_parts(folder: Path):
    """Build the micro BLIP and its processor; write the processor's files."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *vocabulary()]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    config = BlipConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": BLIP_WIDTH,
            "encoder_hidden_size": BLIP_WIDTH,
            "intermediate_size": 3 * BLIP_WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "bos_token_id": 5,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "is_decoder": True,
            "label_smoothing": 0.0,
        },
        vision_config={
            "hidden_size": BLIP_WIDTH,
            "intermediate_size": 4 * BLIP_WIDTH,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": BLIP_IMAGE,
            "patch_size": PATCH,
            "initializer_range": 0.02,
        },
        projection_dim=64,
        image_text_hidden_size=64,
    )
    model = BlipForConditionalGeneration(config)
    images = BlipImageProcessor(
        size={"height": BLIP_IMAGE, "width": BLIP_IMAGE},
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )
    processor = BlipProcessor(images, tokenizer)
    processor.save_pretrained(folder)
    return model, processor


def start_from_trunk(model, state: dict[str, torch.Tensor]) -> None:
    """Start the captioner's image tower from the trunk; each quarter of the strip is a frame."""
    target = model.vision_model
    with torch.no_grad():
        target.embeddings.patch_embedding.weight.copy_(state["conv1.weight"])
        target.embeddings.patch_embedding.bias.zero_()
        target.embeddings.class_embedding.copy_(state["class_embedding"].view(1, 1, -1))
        places = state["positional_embedding"]
        grid = places[1:].T.reshape(1, -1, GRID, GRID)
        grid = F.interpolate(grid, (QUARTER, QUARTER), mode="bicubic", align_corners=False)
        grid = grid[0].repeat(1, 2, 2)
        which = 0.1 * torch.randn(grid.shape[0], 2, 2)  # tells the four frames apart
        grid = grid + which.repeat_interleave(QUARTER, 1).repeat_interleave(QUARTER, 2)
        target.embeddings.position_embedding[0, 0] = places[0]
        target.embeddings.position_embedding[0, 1:] = grid.flatten(1).T
        for index, layer in enumerate(target.encoder.layers):
            prefix = f"transformer.resblocks.{index}."
            for ours, theirs in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("self_attn.projection", "attn.out_proj"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                module = layer.get_submodule(ours)
                module.weight.copy_(state[f"{prefix}{theirs}.weight"])
                module.bias.copy_(state[f"{prefix}{theirs}.bias"])
            layer.self_attn.qkv.weight.copy_(state[f"{prefix}attn.in_proj_weight"])
            layer.self_attn.qkv.bias.copy_(state[f"{prefix}attn.in_proj_bias"])
        target.post_layernorm.weight.copy_(state["ln_post.weight"])
        target.post_layernorm.bias.copy_(state["ln_post.bias"])


class BlipTeacher(nn.Module):
    """What teaches the strip's class token and patches; dropped after pre-training.

    The class token names action, colour and shape and follows the acting thing through the four
    frames; patches name what they show and whether it acts or only stands about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.action = nn.Linear(BLIP_WIDTH, len(ACTIONS))
        self.track = nn.Linear(BLIP_WIDTH, 16)
        self.colour = nn.Linear(BLIP_WIDTH, len(COLOURS))
        self.shape = nn.Linear(BLIP_WIDTH, len(SHAPES))
        self.patch_acting = nn.Linear(BLIP_WIDTH, 3)
        self.patch_shape = nn.Linear(BLIP_WIDTH, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(BLIP_WIDTH, len(COLOURS) + 1)


def look(
    tower, pixels: torch.Tensor, things: torch.Tensor, kept: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run BLIP's image tower, on all patches or on `kept` of them, those with things first.

    Returns:
        (B, 1 + n, D) states, class token first, and (B, n) the numbers of the kept patches.
    """
    x = tower.embeddings(pixels)
    if kept is None:
        places = torch.arange(x.shape[1] - 1).expand(len(x), -1)
    else:
        places = kept_patches(things, kept)
        rows = x[:, 1:].gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], rows], 1)
    x = tower.encoder(inputs_embeds=x).last_hidden_state
    return tower.post_layernorm(x), places


def lit(rng: np.random.Generator, frames: list[np.ndarray], times: list[float]) -> list[np.ndarray]:
    """Let the light's colour change slowly over the frames of a strip."""
    amplitude = float(rng.uniform(0, 0.3))
    period, phase = rng.uniform(5, 20, 3), rng.uniform(0, 2 * np.pi, 3)
    changed = []
    for frame, time in zip(frames, times, strict=True):
        light = 1 + amplitude * np.sin(2 * np.pi * time / period + phase)
        changed.append(np.clip(frame * light, 0, 255).astype(np.uint8))
    return changed


def blip_batch(step: int, *, seed: int, tokenizer, light: bool = False) -> Batch:
    """Render strips of events (sometimes of nothing) with captions and auxiliary labels."""
    strips, captions, labels, tracks = [], [], [], []
    shape = np.zeros((STRIPS, 2 * QUARTER, 2 * QUARTER), np.int64)
    colour, acting = np.zeros_like(shape), np.zeros_like(shape)
    for item in range(STRIPS):
        rng, scene = training_scene(seed + 7, step, item)
        index = int(rng.integers(len(scene.events)))
        event = scene.events[index]
        renderer = Renderer(scene)
        length = event.end - event.start
        start = event.start + length * rng.uniform(-0.15, 0.2)
        end = event.end - length * rng.uniform(-0.15, 0.2)
        caption = event_caption(rng, scene, event)
        label = (
            ACTIONS.index(event.action),
            COLOURS.index(event.thing.colour),
            SHAPES.index(event.thing.shape),
        )
        if rng.random() < 0.05:
            last = index + 1 == len(scene.events)
            start = event.end
            end = scene.duration if last else scene.events[index + 1].start
            caption, label = "an empty scene", (-100, -100, -100)
        start, end = max(0.0, start), min(scene.duration, end)
        times = [start + (end - start) * (k + 0.5) / 4 for k in range(4)]
        frames = [shrunk(renderer.frame(t), BLIP_IMAGE // 2) for t in times]
        a, b, c, d = lit(rng, frames, times) if light else frames
        picture = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)
        strips.append(augment(rng, picture, STRONG if rng.random() < 0.7 else MILD))
        for k, instant in enumerate(times):
            place = (
                item,
                slice((k // 2) * QUARTER, (k // 2 + 1) * QUARTER),
                slice((k % 2) * QUARTER, (k % 2 + 1) * QUARTER),
            )
            seen = visible(scene, instant)
            paint(shape[place], colour[place], seen)
            for number, acts in ((1, False), (2, True)):
                mask = np.zeros((QUARTER, QUARTER), np.int64)
                paint(mask, mask.copy(), [t for t in seen if (t.size is not None) == acts])
                acting[place][mask > 0] = number
        tracks.append(track(event, times))
        captions.append(caption.removeprefix("a video of "))
        labels.append(label)
    words = tokenizer(captions, padding=True, return_tensors="pt")
    return {
        "strips": torch.from_numpy(np.stack(strips)),
        "ids": words["input_ids"],
        "mask": words["attention_mask"],
        "labels": torch.tensor(labels),
        "track": torch.tensor(tracks),
        "acting": torch.from_numpy(acting).flatten(1),
        "shape": torch.from_numpy(shape).flatten(1),
        "colour": torch.from_numpy(colour).flatten(1),
    }


def blip_losses(
    model, teacher: BlipTeacher, batch: dict[str, torch.Tensor], whole: bool
) -> dict[str, torch.Tensor]:
    """Return the losses of one BLIP step."""
    # The decoder starts from [DEC] and ends with [SEP], as generate() does.
    ids = batch["ids"].clone()
    ids[:, 0] = model.config.text_config.bos_token_id
    targets = ids.masked_fill(batch["mask"] == 0, -100)
    states, kept = look(
        model.vision_model, as_pixels(batch["strips"]), batch["acting"], None if whole else KEPT
    )
    said = model.text_decoder(
        input_ids=ids,
        attention_mask=batch["mask"],
        encoder_hidden_states=states,
        return_dict=True,
    ).logits
    first, patches = states[:, 0], states[:, 1:]
    action, colour, shape = batch["labels"].T

    def named(head: nn.Linear, key: str) -> torch.Tensor:
        true = batch[key].gather(1, kept).flatten()
        logits = head(patches).flatten(0, 1)
        return 0.5 * F.cross_entropy(logits, true, none_weight(head.out_features))

    return {
        "caption": F.cross_entropy(
            said[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100
        ),
        "action": 0.5 * F.cross_entropy(teacher.action(first), action),
        "track": 8 * track_loss(teacher.track(first).view(-1, 4, 4), batch["track"]),
        "colour": 0.25 * F.cross_entropy(teacher.colour(first), colour),
        "shape": 0.25 * F.cross_entropy(teacher.shape(first), shape),
        "acting": named(teacher.patch_acting, "acting"),
        "patch_shape": named(teacher.patch_shape, "shape"),
        "patch_colour": named(teacher.patch_colour, "colour"),
    }


def pretrain_blip(folder: Path, trunk: Path, work: Path, seed: int) -> None:
    """Train the micro BLIP and write its transformers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model, processor = blip_parts(folder)
    start_from_trunk(model, trunk_weights(trunk))
    teacher = BlipTeacher()

    modules = nn.ModuleDict({"model": model, "teacher": teacher})
    make = partial(blip_batch, seed=seed, tokenizer=processor.tokenizer)

    def losses(batch: Batch, step: int) -> dict[str, torch.Tensor]:
        return blip_losses(model, teacher, batch, step >= STEPS - WHOLE_STEPS)

    fit(modules, make, losses, work, steps=STEPS, rate=RATE)

    def light_losses(batch: Batch, step: int) -> dict[str, torch.Tensor]:
        return blip_losses(model, teacher, batch, step >= LIGHT_STEPS - WHOLE_STEPS)

    fit(modules, partial(make, seed=seed + 1, light=True), light_losses, work / "light",
        steps=LIGHT_STEPS, rate=LIGHT_RATE)  # fmt: skip
    model.half().save_pretrained(folder)
