"""Pre-train the two micro backbones on microworld's `studio` domain.

    python scripts/pretrain_micro.py trunk --out runs/trunk
    python scripts/pretrain_micro.py clip --trunk runs/trunk --out zsvg/backbones/micro/clip
    python scripts/pretrain_micro.py blip --trunk runs/trunk --out zsvg/backbones/micro/blip

The trunk is an image tower that learns shapes and colours from small windows of patches, four
times cheaper than whole frames; both backbones start from it. Data are rendered as they are needed
from (seed, step), so a run repeats exactly and resumes after an interruption. Only `studio`
pictures are seen; the sentences use every word of every domain.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import nn

from zsvg.files import atomic_path, write_json, write_text
from zsvg.microworld.domains import PRETRAINING
from zsvg.microworld.language import (
    event_caption,
    frame_caption,
    vocabulary,
)
from zsvg.microworld.render import RADIUS, Renderer
from zsvg.microworld.script import (
    ACTIONS,
    COLOURS,
    SHAPES,
    Event,
    Scene,
    Thing,
    generator,
    pose,
    sample_scene,
)

CLIP_IMAGE, PATCH, WIDTH, EMBED, CONTEXT = 64, 8, 144, 128, 24
BLIP_IMAGE, BLIP_WIDTH = 112, 144
GRID = CLIP_IMAGE // PATCH
SHOWN = 6  # frames of one event that CLIP sees per step


@dataclass(frozen=True)
class Seen:
    """One visible thing of a frame: the thing, its centre, half its width (all in frame widths)."""

    thing: Thing
    x: float
    y: float
    half: float
    size: str | None


def visible(scene: Scene, time_: float) -> list[Seen]:
    """Return what can be seen at one instant, the acting thing first."""
    seen = []
    for event in scene.events:
        if event.start <= time_ < event.end:
            at = pose(event, time_)
            if at.opacity > 0.5 and -0.02 < at.x < 1.02 and -0.02 < at.y < 1.02:
                half = RADIUS[event.size] * at.scale
                seen.append(Seen(event.thing, at.x, at.y, half, event.size))
    seen += [Seen(d.thing, d.x, d.y, RADIUS["small"], None) for d in scene.distractors]
    return seen


def track(event: Event, times: list[float]) -> list[list[float]]:
    """Return x, y, twice the size and visibility of an event's thing at some times."""
    rows = []
    for instant in times:
        shown = event.start <= instant < event.end
        at = pose(event, min(max(instant, event.start), event.end - 1e-3))
        rows.append([at.x, at.y, 2 * RADIUS[event.size] * at.scale, at.opacity if shown else 0.0])
    return rows


def track_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Smooth L1 on place and size where the thing is visible, and on visibility everywhere."""
    shown = (true[..., 3:] > 0.5).float()
    error = F.smooth_l1_loss(predicted, true, reduction="none", beta=0.1)
    return (error[..., :3] * shown).mean() + error[..., 3].mean()


def training_scene(seed: int, step: int, item: int) -> tuple[np.random.Generator, Scene]:
    """Return the random stream and script of one training example."""
    rng = generator(PRETRAINING, "train", seed + 1_000_003, step * 1000 + item)
    return rng, sample_scene(rng, vid="", domain=PRETRAINING)


def jitter(
    rng: np.random.Generator, picture: np.ndarray, strength: float, filtered: float = 0.3
) -> np.ndarray:
    """Photometric augmentation of (H, W, 3) uint8: gain, offset, cast, blur, edges, noise."""
    image = picture.astype(np.float32)
    if strength > 0.5 and rng.random() < filtered:
        source = Image.fromarray(picture)
        if rng.random() < 0.3:
            source = source.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.4))))
        else:
            edges = source.filter(ImageFilter.FIND_EDGES)
            source = Image.blend(source, edges, float(rng.uniform(0.2, 0.8)))
        image = np.asarray(source, np.float32)
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * float(rng.uniform(1 - 0.6 * strength, 1 + 0.2 * strength))
    image = image * rng.uniform(1 - 0.5 * strength, 1 + 0.3 * strength)
    image = image * (1 + strength * rng.uniform(-0.2, 0.2, 3)) + strength * rng.uniform(-40, 40)
    image += rng.normal(0, rng.uniform(0, 14 * strength), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


# --- trunk -----------------------------------------------------------------------------------

WINDOW = 4  # patches: a window is 4 x 4 of the 8 x 8 patches of a frame


class Trunk(nn.Module):
    """The image tower with what teaches it about one thing in a window of patches."""

    def __init__(self) -> None:
        super().__init__()
        from open_clip.transformer import VisionTransformer

        self.visual = VisionTransformer(
            image_size=CLIP_IMAGE,
            patch_size=PATCH,
            width=WIDTH,
            layers=5,
            heads=4,
            mlp_ratio=4.0,
            output_dim=EMBED,
            no_ln_pre=True,
        )
        with torch.no_grad():  # neighbours should look alike from the start
            self.visual.positional_embedding[1:] = sincos(GRID, WIDTH)
        self.patch_shape = nn.Linear(WIDTH, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(WIDTH, len(COLOURS) + 1)
        self.shape = nn.Linear(WIDTH, len(SHAPES))
        self.colour = nn.Linear(WIDTH, len(COLOURS))
        self.box = nn.Linear(WIDTH, 3)

    def forward(self, pixels: torch.Tensor, window: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode only the patches in `window` (B, n); return class token and patch states."""
        v = self.visual
        x = v.conv1(pixels).flatten(2).transpose(1, 2)
        x = x + v.positional_embedding[1:]
        x = torch.gather(x, 1, window[..., None].expand(-1, -1, x.shape[-1]))
        first = (v.class_embedding + v.positional_embedding[0]).expand(len(x), 1, -1)
        x = v.ln_post(v.transformer(torch.cat([first, x], 1)))
        return x[:, 0], x[:, 1:]


def sincos(grid: int, width: int, scale: float = 0.25) -> torch.Tensor:
    """Return (grid * grid, width) two-dimensional sine-cosine position embeddings."""
    ys, xs = np.mgrid[0:grid, 0:grid]
    rates = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    waves = [f(v.reshape(-1, 1) * rates) for v in (xs, ys) for f in (np.sin, np.cos)]
    return torch.tensor(scale * np.concatenate(waves, 1), dtype=torch.float32)


class Batches(torch.utils.data.Dataset):
    """One item is one whole batch, a function of (seed, step), so that a process can prepare it."""

    def __init__(self, seed: int, first: int, steps: int, size: int) -> None:
        self.seed, self.first, self.steps, self.size = seed, first, steps, size

    def __len__(self) -> int:
        return self.steps - self.first


class BlipData(Batches):
    """Batches of strips."""

    def __getitem__(self, index: int) -> dict[str, object]:
        return blip_batch(self.seed, self.first + index, self.size)


class TrunkData(Batches):
    """Batches of windows around things."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        frames, windows, shapes, colours, things, boxes = [], [], [], [], [], []
        item = 0
        while len(frames) < self.size:
            rng, scene = training_scene(self.seed + 3, self.first + index, item)
            item += 1
            renderer = Renderer(scene)
            for event in scene.events:
                instant = float(rng.uniform(event.start, event.end - 0.05))
                seen = [
                    s for s in visible(scene, instant) if min(s.x, s.y, 1 - s.x, 1 - s.y) > 0.04
                ]
                if not seen or len(frames) >= self.size:
                    continue
                picture = Image.fromarray(renderer.frame(instant)).resize(
                    (CLIP_IMAGE, CLIP_IMAGE), Image.Resampling.BICUBIC
                )
                frames.append(jitter(rng, np.asarray(picture), float(rng.uniform(0, 1))))
                thing = seen[0] if rng.random() < 0.75 else seen[-1]
                row, column = (
                    int(np.clip(round(v * GRID - rng.uniform(1, 3)), 0, GRID - WINDOW))
                    for v in (thing.y, thing.x)
                )
                cells = (np.arange(row, row + WINDOW)[:, None] * GRID
                         + np.arange(column, column + WINDOW)[None, :]).ravel()  # fmt: skip
                shape, colour = np.zeros((GRID, GRID), np.int64), np.zeros((GRID, GRID), np.int64)
                paint(shape, colour, seen)
                windows.append(cells)
                shapes.append(shape.ravel()[cells])
                colours.append(colour.ravel()[cells])
                names = (SHAPES.index(thing.thing.shape), COLOURS.index(thing.thing.colour))
                things.append(names)
                boxes.append((thing.x, thing.y, 4 * thing.half))
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "window": torch.from_numpy(np.stack(windows)),
            "shape": torch.from_numpy(np.stack(shapes)),
            "colour": torch.from_numpy(np.stack(colours)),
            "thing": torch.tensor(things),
            "box": torch.tensor(boxes, dtype=torch.float32),
        }


def paint(shape: np.ndarray, colour: np.ndarray, seen: list[Seen]) -> None:
    """Write shape and colour numbers (0: none) into the patches that things cover."""
    grid = len(shape)
    centres = (np.arange(grid) + 0.5) / grid
    for thing in seen:
        reach = max(0.8 * thing.half, 0.5 / grid)
        inside = (np.abs(centres[:, None] - thing.y) < reach) & (
            np.abs(centres[None, :] - thing.x) < reach
        )
        shape[inside] = SHAPES.index(thing.thing.shape) + 1
        colour[inside] = COLOURS.index(thing.thing.colour) + 1


def as_pixels(frames: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 with the micro models' mean and deviation."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def none_weight(classes: int) -> torch.Tensor:
    """Class weights with little weight on patches that show nothing."""
    weight = torch.ones(classes)
    weight[0] = 0.1
    return weight


def pretrain_trunk(args: argparse.Namespace) -> None:
    """Train the shared image tower."""
    torch.manual_seed(args.seed)
    trunk = Trunk()

    def batches(first: int):
        data = TrunkData(args.seed, first, args.steps, args.batch)
        # One process renders while this one learns; the order of batches stays the same.
        return iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=args.workers))

    def losses(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first, patches = trunk(as_pixels(batch["frames"]), batch["window"])
        shape, colour = batch["thing"].T
        return {
            "patch_shape": F.cross_entropy(
                trunk.patch_shape(patches).flatten(0, 1),
                batch["shape"].flatten(),
                none_weight(len(SHAPES) + 1),
            ),
            "patch_colour": F.cross_entropy(
                trunk.patch_colour(patches).flatten(0, 1),
                batch["colour"].flatten(),
                none_weight(len(COLOURS) + 1),
            ),
            "shape": F.cross_entropy(trunk.shape(first), shape),
            "colour": F.cross_entropy(trunk.colour(first), colour),
            "box": 4 * F.smooth_l1_loss(trunk.box(first), batch["box"]),
        }

    fit(nn.ModuleDict({"trunk": trunk}), losses, args, batches)
    with atomic_path(Path(args.out) / "trunk.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in trunk.visual.state_dict().items()}, temporary)


def trunk_weights(folder: str) -> dict[str, torch.Tensor]:
    """Return the trained trunk without its projection."""
    state = load_file(Path(folder) / "trunk.safetensors")
    state.pop("proj")
    return state


# --- CLIP ------------------------------------------------------------------------------------


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

    Patch heads name shape and colour, frame heads say which things are where, and a small temporal
    encoder over several frames is matched with sentences about actions, so that the text tower
    learns verbs and the frame features carry pose.
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
        self.clip_scale = nn.Parameter(torch.tensor(math.log(10.0)))


def clip_batch(seed: int, step: int, clips: int, strength: float) -> dict[str, object]:
    """Render `clips` events with SHOWN frames each, their captions and auxiliary labels."""
    frames, captions, sentences, actions, tracks = [], [], [], [], []
    shape = np.zeros((clips * SHOWN, GRID, GRID), np.int64)
    colour = np.zeros_like(shape)
    pair = np.zeros((clips * SHOWN, len(SHAPES), len(COLOURS)), np.float32)
    where = np.zeros((clips * SHOWN, len(COLOURS), 4, 4), np.float32)
    for item in range(clips):
        rng, scene = training_scene(seed, step, item)
        event = scene.events[int(rng.integers(len(scene.events)))]
        renderer = Renderer(scene)
        first, last = event.start, event.end - 0.05
        first += rng.uniform(0, 0.2) * (last - first)
        last -= rng.uniform(0, 0.2) * (last - first)
        times = np.linspace(first, last, SHOWN)
        if rng.random() < 0.3:  # one frame of the idle time before
            times[0] = max(0.0, event.start - 0.5)
        augment = int(rng.integers(2**31))
        for number, instant in enumerate(times):
            n = item * SHOWN + number
            picture = Image.fromarray(renderer.frame(float(instant)))
            small = np.asarray(picture.resize((CLIP_IMAGE, CLIP_IMAGE), Image.Resampling.BICUBIC))
            frames.append(jitter(np.random.default_rng(augment), small, strength))
            seen = visible(scene, float(instant))
            paint(shape[n], colour[n], seen)
            for thing in seen:
                s, c = SHAPES.index(thing.thing.shape), COLOURS.index(thing.thing.colour)
                pair[n, s, c] = 1
                row, column = (int(np.clip(4 * v, 0, 3)) for v in (thing.y, thing.x))
                where[n, c, row, column] = 1
            order = seen if rng.random() < 0.65 else seen[::-1]
            if number % 2 == 0:
                listed = [(s.thing, s.x, s.y, s.size) for s in order]
                captions.append(frame_caption(rng, scene, listed))
        sentences.append(event_caption(rng, scene, event))
        actions.append(ACTIONS.index(event.action))
        tracks.append(track(event, times.tolist()))
    return {
        "track": torch.tensor(tracks),
        "frames": torch.from_numpy(np.stack(frames)),
        "captions": captions,
        "sentences": sentences,
        "actions": torch.tensor(actions),
        "shape": torch.from_numpy(shape).flatten(1),
        "colour": torch.from_numpy(colour).flatten(1),
        "pair": torch.from_numpy(pair).flatten(1),
        "where": torch.from_numpy(where).flatten(1),
    }


def contrast(
    a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, group: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE; pairs of the same group other than the diagonal are not negatives."""
    logits = scale.exp().clamp(max=100) * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    same = group[:, None] == group[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(a))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def caption_groups(texts: list[str]) -> torch.Tensor:
    """Give equal captions one number, so that they are not each other's negatives."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


def clip_loss(model, teacher: ClipTeacher, tokenizer, batch) -> dict[str, torch.Tensor]:
    """Return the losses of one CLIP step."""
    pooled, tokens = model.visual(as_pixels(batch["frames"]))
    texts = [*batch["captions"], *batch["sentences"]]
    text = model.encode_text(tokenizer(texts, context_length=CONTEXT))
    caption, sentence = text[: len(batch["captions"])], text[len(batch["captions"]) :]
    steps = teacher.temporal(pooled.view(-1, SHOWN, EMBED) + teacher.position)
    video = steps.mean(1)
    present = batch["pair"]
    return {
        "frame": contrast(
            pooled.view(-1, SHOWN, EMBED)[:, ::2].reshape(-1, EMBED),
            caption,
            model.logit_scale,
            torch.arange(len(pooled) // SHOWN).repeat_interleave(SHOWN // 2),
        ),
        "clip": contrast(video, sentence, teacher.clip_scale, caption_groups(batch["sentences"])),
        "action": 0.5 * F.cross_entropy(teacher.action(video), batch["actions"]),
        "track": 8 * track_loss(teacher.track(steps), batch["track"]),
        "shape": F.cross_entropy(
            teacher.patch_shape(tokens).flatten(0, 1),
            batch["shape"].flatten(),
            none_weight(len(SHAPES) + 1),
        ),
        "colour": F.cross_entropy(
            teacher.patch_colour(tokens).flatten(0, 1),
            batch["colour"].flatten(),
            none_weight(len(COLOURS) + 1),
        ),
        "pair": 10 * F.binary_cross_entropy_with_logits(teacher.pair(pooled), present),
        "where": 5 * F.binary_cross_entropy_with_logits(teacher.where(pooled), batch["where"]),
    }


def pretrain_clip(args: argparse.Namespace) -> None:
    """Train the micro CLIP and write its open_clip folder."""
    import open_clip
    from open_clip.factory import CustomTextCLIP

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    words = write_clip_tokenizer(folder)
    config = clip_config(words)
    write_json(folder / "open_clip_config.json", config)
    torch.manual_seed(args.seed)
    settings = dict(config["model_cfg"])  # type: ignore[call-overload]
    model = CustomTextCLIP(**settings)
    model.visual.output_tokens = True
    model.visual.load_state_dict(trunk_weights(args.trunk), strict=False)
    teacher = ClipTeacher()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def batches(first: int):
        return (
            (clip_batch(args.seed, step, args.batch, 0.25)) for step in range(first, args.steps)
        )

    def losses(batch):
        return clip_loss(model, teacher, tokenizer, batch)

    fit(nn.ModuleDict({"model": model, "teacher": teacher}), losses, args, batches)
    half = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(half, temporary)
    write_text(folder / "README.md", clip_card(args))


def clip_card(args: argparse.Namespace) -> str:
    """Return the start of the model card; `scripts/check_microworld.py` measures the rest."""
    return (
        "# micro CLIP\n\n"
        "A small open_clip model pre-trained on rendered microworld `studio` frames "
        f"(`scripts/pretrain_micro.py clip --steps {args.steps} --seed {args.seed}`).\n"
        "It understands microworld and nothing else. Apache-2.0.\n"
    )


# --- BLIP ------------------------------------------------------------------------------------


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


def load_trunk_into_blip(model, state: dict[str, torch.Tensor]) -> None:
    """Start the captioner's image tower from the trunk; each quarter of the strip is a frame."""
    target = model.vision_model
    quarter = BLIP_IMAGE // PATCH // 2
    with torch.no_grad():
        target.embeddings.patch_embedding.weight.copy_(state["conv1.weight"])
        target.embeddings.patch_embedding.bias.zero_()
        target.embeddings.class_embedding.copy_(state["class_embedding"].view(1, 1, -1))
        places = state["positional_embedding"]
        grid = places[1:].T.reshape(1, -1, GRID, GRID)
        grid = F.interpolate(grid, (quarter, quarter), mode="bicubic", align_corners=False)
        grid = grid[0].repeat(1, 2, 2)
        which = 0.1 * torch.randn(grid.shape[0], 2, 2)  # tells the four frames apart
        grid = grid + which.repeat_interleave(quarter, 1).repeat_interleave(quarter, 2)
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
        self.patch_acting = nn.Linear(BLIP_WIDTH, 3)
        self.colour = nn.Linear(BLIP_WIDTH, len(COLOURS))
        self.shape = nn.Linear(BLIP_WIDTH, len(SHAPES))
        self.patch_shape = nn.Linear(BLIP_WIDTH, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(BLIP_WIDTH, len(COLOURS) + 1)


def look(
    tower, pixels: torch.Tensor, things: torch.Tensor, patches: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the image tower, on all patches or on those with things and a few of the others.

    Three quarters of a strip show nothing; leaving most of that out makes a step three times
    cheaper. The last steps see everything again.

    Args:
        tower: BLIP's vision model.
        pixels: (B, 3, H, W).
        things: (B, P) more than 0 where a patch shows a thing.
        patches: How many to keep; None keeps all.

    Returns:
        (B, 1 + n, D) states, class token first, and (B, n) the numbers of the kept patches.
    """
    x = tower.embeddings(pixels)
    count = x.shape[1] - 1
    if patches is None or patches >= count:
        kept = torch.arange(count).expand(len(x), -1)
    else:
        # The batch is a function of (seed, step); so is this choice.
        order = np.random.default_rng(int(things.sum())).random(things.shape)
        wanted = (things > 0).float() + torch.from_numpy(order).float() * 0.9
        kept = wanted.topk(patches, dim=1).indices.sort(dim=1).values
        rows = x[:, 1:].gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], rows], 1)
    x = tower.encoder(inputs_embeds=x).last_hidden_state
    return tower.post_layernorm(x), kept


def strip_of(renderer: Renderer, start: float, end: float) -> tuple[np.ndarray, list[float]]:
    """Return a 2x2 strip of four frames from [start, end), (192, 192, 3), and their times."""
    times = [start + (end - start) * (k + 0.5) / 4 for k in range(4)]
    a, b, c, d = (renderer.frame(t) for t in times)
    return np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0), times


def blip_batch(seed: int, step: int, items: int) -> dict[str, object]:
    """Render strips of events (sometimes of nothing) with captions and auxiliary labels."""
    strips, captions, labels, tracks = [], [], [], []
    grid = BLIP_IMAGE // PATCH
    half_grid = grid // 2
    shape = np.zeros((items, grid, grid), np.int64)
    colour, acting = np.zeros_like(shape), np.zeros_like(shape)
    for item in range(items):
        rng, scene = training_scene(seed + 7, step, item)
        index = int(rng.integers(len(scene.events)))
        event: Event = scene.events[index]
        renderer = Renderer(scene)
        length = event.end - event.start
        start = event.start + length * rng.uniform(-0.12, 0.2)
        end = event.end - length * rng.uniform(-0.12, 0.2)
        caption = event_caption(rng, scene, event)
        label = (
            ACTIONS.index(event.action),
            COLOURS.index(event.thing.colour),
            SHAPES.index(event.thing.shape),
        )
        if rng.random() < 0.06:
            start = event.end
            following = (
                scene.events[index + 1].start if index + 1 < len(scene.events) else scene.duration
            )
            end, caption, label = following, "an empty scene", (-100, -100, -100)
        strip, times = strip_of(renderer, max(0.0, start), min(scene.duration, end))
        image = Image.fromarray(strip).resize((BLIP_IMAGE, BLIP_IMAGE), Image.Resampling.BICUBIC)
        strips.append(jitter(rng, np.asarray(image), float(rng.uniform(0, 1)), 0.6))
        for k, instant in enumerate(times):
            rows = slice((k // 2) * half_grid, (k // 2 + 1) * half_grid)
            columns = slice((k % 2) * half_grid, (k % 2 + 1) * half_grid)
            seen = visible(scene, instant)
            paint(shape[item, rows, columns], colour[item, rows, columns], seen)
            for number, group in ((1, [t for t in seen if t.size is None]),
                                  (2, [t for t in seen if t.size is not None])):  # fmt: skip
                mask = np.zeros((half_grid, half_grid), np.int64)
                paint(mask, mask.copy(), group)
                acting[item, rows, columns][mask > 0] = number
        tracks.append(track(event, times))
        captions.append(caption.removeprefix("a video of "))
        labels.append(label)
    return {
        "strips": torch.from_numpy(np.stack(strips)),
        "captions": captions,
        "labels": torch.tensor(labels),
        "track": torch.tensor(tracks),
        "acting": torch.from_numpy(acting).flatten(1),
        "shape": torch.from_numpy(shape).flatten(1),
        "colour": torch.from_numpy(colour).flatten(1),
    }


def pretrain_blip(args: argparse.Namespace) -> None:
    """Train the micro BLIP and write its transformers folder."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    model, processor = blip_parts(folder)
    load_trunk_into_blip(model, trunk_weights(args.trunk))
    teacher = BlipTeacher()

    def batches(first: int):
        data = BlipData(args.seed, first, args.steps, args.batch)
        return iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=args.workers))

    def losses(batch) -> dict[str, torch.Tensor]:
        pixels = as_pixels(batch["strips"])
        words = processor.tokenizer(batch["captions"], padding=True, return_tensors="pt")
        # The decoder starts from [DEC] and ends with [SEP], as generate() does.
        ids = words["input_ids"].clone()
        ids[:, 0] = model.config.text_config.bos_token_id
        targets = ids.masked_fill(words["attention_mask"] == 0, -100)
        targets[:, 0] = -100
        states, kept = look(model.vision_model, pixels, batch["acting"], args.patches)
        out = model.text_decoder(
            input_ids=ids,
            attention_mask=words["attention_mask"],
            encoder_hidden_states=states,
            return_dict=True,
        )
        caption = F.cross_entropy(
            out.logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100
        )
        first, patches = states[:, 0], states[:, 1:]
        action, colour, shape = batch["labels"].T
        shown = {k: batch[k].gather(1, kept) for k in ("shape", "colour", "acting")}
        return {
            "caption": caption,
            "action": 0.5 * F.cross_entropy(teacher.action(first), action),
            "track": 8 * track_loss(teacher.track(first).view(-1, 4, 4), batch["track"]),
            "acting": 0.5
            * F.cross_entropy(
                teacher.patch_acting(patches).flatten(0, 1),
                shown["acting"].flatten(),
                none_weight(3),
            ),
            "colour": 0.25 * F.cross_entropy(teacher.colour(first), colour),
            "shape": 0.25 * F.cross_entropy(teacher.shape(first), shape),
            "patch_shape": 0.5
            * F.cross_entropy(
                teacher.patch_shape(patches).flatten(0, 1),
                shown["shape"].flatten(),
                none_weight(len(SHAPES) + 1),
            ),
            "patch_colour": 0.5
            * F.cross_entropy(
                teacher.patch_colour(patches).flatten(0, 1),
                shown["colour"].flatten(),
                none_weight(len(COLOURS) + 1),
            ),
        }

    fit(nn.ModuleDict({"model": model, "teacher": teacher}), losses, args, batches)
    model.half().save_pretrained(folder, safe_serialization=True)
    write_text(
        folder / "README.md",
        "# micro BLIP\n\nA small captioner for 2x2 strips of microworld frames "
        f"(`scripts/pretrain_micro.py blip --steps {args.steps} --seed {args.seed}`).\n"
        "It understands microworld and nothing else. Apache-2.0.\n",
    )


# --- training loop ---------------------------------------------------------------------------


def fit(modules: nn.ModuleDict, losses, args: argparse.Namespace, batches) -> None:
    """AdamW with warm-up and cosine decay; checkpoints every few minutes; resumes by itself."""
    work = Path(args.work or f"{args.out}.work")
    work.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.02, betas=(0.9, 0.98))
    first, spent = resume(work, modules, optimizer)
    saved = started = time.monotonic()
    sums: dict[str, float] = {}
    modules.train()
    for step, batch in enumerate(batches(first), first):
        warm = min(1.0, (step + 1) / 150)
        decay = 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * warm * (0.02 + 0.98 * decay)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            parts = losses(batch)
            loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % 25 == 0:
            line = {k: round(v / 25, 3) for k, v in sums.items()}
            minutes = (spent + time.monotonic() - started) / 60
            print(json.dumps({"step": step + 1, "minutes": round(minutes, 1), **line}), flush=True)
            sums = {}
        stopping = step + 1 == (args.until or args.steps)
        if time.monotonic() - saved > 180 or stopping:
            saved = time.monotonic()
            save(work, modules, optimizer, step + 1, spent + saved - started)
        if stopping and step + 1 < args.steps:
            raise SystemExit(f"stopped after step {step + 1}, as --until says")


def save(work: Path, modules: nn.ModuleDict, optimizer, step: int, spent: float) -> None:
    """Write weights and optimizer moments, then the pointer to them."""
    tensors = {f"weight.{k}": v.contiguous() for k, v in modules.state_dict().items()}
    names = [n for n, p in modules.named_parameters() if p.requires_grad]
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        state = optimizer.state.get(parameter)
        if state:
            tensors[f"first.{name}"] = state["exp_avg"]
            tensors[f"second.{name}"] = state["exp_avg_sq"]
    unique = {k: v.clone() for k, v in tensors.items()}  # tied weights may not share storage
    with atomic_path(work / "state.safetensors") as temporary:
        save_file(unique, temporary, {"progress": json.dumps({"step": step, "seconds": spent})})


def resume(work: Path, modules: nn.ModuleDict, optimizer) -> tuple[int, float]:
    """Load the last checkpoint, if any; return the step to go on from and the seconds spent."""
    path = work / "state.safetensors"
    if not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    tensors = load_file(path)
    modules.load_state_dict(
        {k.removeprefix("weight."): v for k, v in tensors.items() if k.startswith("weight.")}
    )
    with safe_open(path, "pt") as handle:
        progress = json.loads(handle.metadata()["progress"])
    names = [n for n, p in modules.named_parameters() if p.requires_grad]
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        if f"first.{name}" in tensors:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(progress["step"])),
                "exp_avg": tensors[f"first.{name}"],
                "exp_avg_sq": tensors[f"second.{name}"],
            }
    return int(progress["step"]), float(progress["seconds"])


def main() -> None:
    """Parse the command line and train one backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=("trunk", "clip", "blip"))
    parser.add_argument("--out", required=True, help="folder of the finished backbone")
    parser.add_argument("--work", help="folder of the checkpoint (default: OUT.work)")
    parser.add_argument("--trunk", help="folder of the trained trunk")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--until", type=int, help="stop here; continue later, maybe for more steps")
    parser.add_argument("--patches", type=int, help="patches of a strip to keep [default: all]")
    parser.add_argument("--batch", type=int, default=None, help="events per step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="rendering processes (trunk)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.batch = args.batch or {"trunk": 256, "clip": 20, "blip": 32}[args.which]
    run = {"trunk": pretrain_trunk, "clip": pretrain_clip, "blip": pretrain_blip}[args.which]
    run(args)


if __name__ == "__main__":
    main()
