"""The micro CLIP: frames matched with captions, runs of frames matched with sentences.

A sentence is matched with the mean of an event's frame features plus their change over time, both
without parameters, so that the text tower learns verbs and frame features carry place and size.
Wrong verbs with the same noun are the hard negatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pretraining.captions import event_caption, frame_caption
from pretraining.data import (
    CLIP_IMAGE,
    MILD,
    PATCH,
    WIDTH,
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
from pretraining.fit import fit
from pretraining.trunk import EMBED, GRID, look, trunk_weights
from zsvg.files import atomic_path, write_json
from zsvg.microworld.language import vocabulary
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import ACTIONS, COLOURS, SHAPES, Event, Scene

Tokenizer = Callable[..., torch.Tensor]
CONTEXT = 24
STEPS, CLIPS, RATE = 2200, 40, 1.2e-3
SHOWN = 6  # frames of one event per step
CAPTIONED = 2  # of them with a caption of their own
WRONG = 3  # sentences with the same noun and another verb
KEPT = 28  # patches of a frame, of 64; the last steps see all
WHOLE_STEPS = 150


def clip_config(words: int) -> dict[str, object]:
    """Return the open_clip configuration of the micro CLIP."""
    return {
        "model_cfg": {
            "embed_dim": EMBED,
            "vision_cfg": {
                "image_size": CLIP_IMAGE,
                "patch_size": PATCH,
                "width": WIDTH,
                "layers": 5,
                "head_width": 36,
                "mlp_ratio": 4.0,
                "no_ln_pre": True,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": words,
                "width": 128,
                "heads": 4,
                "layers": 3,
                "hf_tokenizer_name": "micro",
            },
        },
        "preprocess_cfg": {
            "size": [CLIP_IMAGE, CLIP_IMAGE],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def write_clip_tokenizer(folder: Path) -> int:
    """Write a word-level tokenizer; the end token has the highest id, as argmax pooling needs."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<start>", *vocabulary(), "<end>"]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", ids["<start>"]), ("<end>", ids["<end>"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=CONTEXT,
    ).save_pretrained(folder)
    return len(words)


class ClipTeacher(nn.Module):
    """What teaches the micro CLIP beside captions; dropped after pre-training.

    Patches name shape and colour, frames say which things are where, and a small temporal encoder
    follows the acting thing and names its action.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_shape = nn.Linear(WIDTH, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(WIDTH, len(COLOURS) + 1)
        self.pair = nn.Linear(EMBED, len(SHAPES) * len(COLOURS))
        self.where = nn.Linear(EMBED, len(COLOURS) * 16)
        layer = nn.TransformerEncoderLayer(
            EMBED, 4, 2 * EMBED, dropout=0.0, batch_first=True, norm_first=True
        )
        self.temporal = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.position = nn.Parameter(0.02 * torch.randn(SHOWN, EMBED))
        self.action = nn.Linear(EMBED, len(ACTIONS))
        self.track = nn.Linear(EMBED, 4)
        self.trend, self.unrest = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(2.0))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def video(self, frames: torch.Tensor) -> torch.Tensor:
        """Summarise (B, SHOWN, D) frame features: mean, late minus early, and mean change."""
        ramp = torch.linspace(-1, 1, SHOWN) / (SHOWN / 2)
        trend = torch.einsum("btd,t->bd", frames, ramp)
        unrest = (frames[:, 1:] - frames[:, :-1]).abs().mean(1)
        return F.normalize(frames.mean(1) + self.trend * trend + self.unrest * unrest, dim=-1)


def wrong_sentences(rng: np.random.Generator, scene: Scene, event: Event) -> list[str]:
    """Say of an event that its thing does something else."""
    others = [action for action in ACTIONS if action != event.action]
    chosen = rng.choice(others, WRONG, replace=False)
    return [event_caption(rng, scene, replace(event, action=str(action))) for action in chosen]


def clip_batch(step: int, *, seed: int, tokenizer: Tokenizer) -> Batch:
    """Render events with SHOWN frames each, their captions and auxiliary labels."""
    frames, captions, captioned, sentences, wrong, actions, tracks = [], [], [], [], [], [], []
    shape = np.zeros((CLIPS * SHOWN, GRID, GRID), np.int64)
    colour = np.zeros_like(shape)
    pair = np.zeros((CLIPS * SHOWN, len(SHAPES), len(COLOURS)), np.float32)
    where = np.zeros((CLIPS * SHOWN, len(COLOURS), 4, 4), np.float32)
    for item in range(CLIPS):
        rng, scene = training_scene(seed, step, item)
        event = scene.events[int(rng.integers(len(scene.events)))]
        renderer = Renderer(scene)
        first, last = event.start, event.end - 0.05
        first += rng.uniform(0, 0.15) * (last - first)
        last -= rng.uniform(0, 0.15) * (last - first)
        times = np.linspace(first, last, SHOWN)
        if rng.random() < 0.2:  # one frame of the idle time before
            times[0] = max(0.0, event.start - 0.5)
        look_seed = int(rng.integers(2**31))
        told = {int(n) for n in rng.choice(SHOWN, CAPTIONED, replace=False)}
        for number, instant in enumerate(times):
            n = item * SHOWN + number
            small = shrunk(renderer.frame(float(instant)), CLIP_IMAGE)
            frames.append(augment(np.random.default_rng(look_seed), small, MILD))
            seen = visible(scene, float(instant))
            paint(shape[n], colour[n], seen)
            for thing in seen:
                s, c = SHAPES.index(thing.thing.shape), COLOURS.index(thing.thing.colour)
                pair[n, s, c] = 1
                row, column = (int(np.clip(4 * v, 0, 3)) for v in (thing.y, thing.x))
                where[n, c, row, column] = 1
            if number in told:
                listed = [(s.thing, s.x, s.y, s.size) for s in seen]
                captions.append(frame_caption(rng, scene, listed))
                captioned.append(n)
        sentences.append(event_caption(rng, scene, event))
        wrong += wrong_sentences(rng, scene, event)
        actions.append(ACTIONS.index(event.action))
        tracks.append(track(event, times.tolist()))
    return {
        "frames": torch.from_numpy(np.stack(frames)),
        "captioned": torch.tensor(captioned),
        "ids": tokenizer([*captions, *sentences, *wrong], context_length=CONTEXT),
        "group": _groups(sentences),
        "actions": torch.tensor(actions),
        "track": torch.tensor(tracks),
        "shape": torch.from_numpy(shape).flatten(1),
        "colour": torch.from_numpy(colour).flatten(1),
        "pair": torch.from_numpy(pair).flatten(1),
        "where": torch.from_numpy(where).flatten(1),
    }


def contrast(
    a: torch.Tensor,
    b: torch.Tensor,
    scale: torch.Tensor,
    group: torch.Tensor,
    wrong: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE between unit vectors; pairs of one group are not negatives.

    `wrong` (n, D) are further negatives for `a`.
    """
    temperature = scale.exp().clamp(max=100)
    logits = temperature * a @ b.T
    same = group[:, None] == group[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(a))
    rows = logits if wrong is None else torch.cat([logits, temperature * a @ wrong.T], 1)
    return (F.cross_entropy(rows, target) + F.cross_entropy(logits.T, target)) / 2


def _groups(texts: list[str]) -> torch.Tensor:
    """Give equal texts one number."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


def say(tower, ids: torch.Tensor) -> torch.Tensor:
    """Run an open_clip text tower without the padding that every row has."""
    length = int((ids != 0).sum(1).max())
    ids = ids[:, :length]
    x = tower.token_embedding(ids) + tower.positional_embedding[:length]
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), ids.argmax(-1)] @ tower.text_projection


def clip_losses(
    model: nn.Module, teacher: ClipTeacher, batch: dict[str, torch.Tensor], whole: bool
) -> dict[str, torch.Tensor]:
    """Return the losses of one CLIP step."""
    count = GRID * GRID
    kept = (
        torch.arange(count).expand(len(batch["frames"]), -1)
        if whole
        else kept_patches(batch["shape"], KEPT)
    )
    first, patches = look(model.visual, as_pixels(batch["frames"]), kept)
    frames = F.normalize(first @ model.visual.proj, dim=-1)
    text = F.normalize(say(model.text, batch["ids"]), dim=-1)
    caption, sentence, wrong = text.split([CLIPS * CAPTIONED, CLIPS, CLIPS * WRONG])
    clips = frames.view(CLIPS, SHOWN, EMBED)
    steps = teacher.temporal(clips * math.sqrt(EMBED) + teacher.position)
    shown = {k: batch[k].gather(1, kept).flatten() for k in ("shape", "colour")}
    scaled = frames * math.sqrt(EMBED)
    return {
        "frame": contrast(
            frames[batch["captioned"]],
            caption,
            model.logit_scale,
            torch.arange(CLIPS).repeat_interleave(CAPTIONED),
        ),
        "clip": contrast(teacher.video(clips), sentence, teacher.scale, batch["group"], wrong),
        "action": 0.5 * F.cross_entropy(teacher.action(steps.mean(1)), batch["actions"]),
        "track": 8 * track_loss(teacher.track(steps), batch["track"]),
        "shape": F.cross_entropy(
            teacher.patch_shape(patches).flatten(0, 1), shown["shape"], none_weight(len(SHAPES) + 1)
        ),
        "colour": 0.5
        * F.cross_entropy(
            teacher.patch_colour(patches).flatten(0, 1),
            shown["colour"],
            none_weight(len(COLOURS) + 1),
        ),
        "pair": 10 * F.binary_cross_entropy_with_logits(teacher.pair(scaled), batch["pair"]),
        "where": 5 * F.binary_cross_entropy_with_logits(teacher.where(scaled), batch["where"]),
    }


def pretrain_clip(folder: Path, trunk: Path, work: Path, seed: int) -> None:
    """Train the micro CLIP and write its open_clip folder."""
    import open_clip
    from open_clip.factory import CustomTextCLIP

    folder.mkdir(parents=True, exist_ok=True)
    words = write_clip_tokenizer(folder)
    config = clip_config(words)
    write_json(folder / "open_clip_config.json", config)
    torch.manual_seed(seed)
    settings = dict(config["model_cfg"])  # type: ignore[call-overload]
    model = CustomTextCLIP(**settings)
    model.visual.load_state_dict(trunk_weights(trunk), strict=False)
    teacher = ClipTeacher()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def losses(batch: Batch, step: int) -> dict[str, torch.Tensor]:
        return clip_losses(model, teacher, batch, step >= STEPS - WHOLE_STEPS)

    make = partial(clip_batch, seed=seed, tokenizer=tokenizer)
    fit(nn.ModuleDict({"model": model, "teacher": teacher}), make, losses, work,
        steps=STEPS, rate=RATE)  # fmt: skip
    half = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(half, temporary)
