"""CLIP backbones by name, through open_clip: frozen, in float32, with a content fingerprint."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.hf_model import HFTextEncoder

from zsvg.backbones.base import TEMPLATE, TextStates, TunableBackbone, pick_device
from zsvg.backbones.frozen import adapters_asleep
from zsvg.backbones.names import STORED, check_backbone
from zsvg.backbones.prompted import PromptedBackbone
from zsvg.backbones.unfilled import unfilled
from zsvg.errors import BackboneError, reason
from zsvg.features.encoder import FrameFeatures
from zsvg.features.from_files import FeatureFiles, ready
from zsvg.files import sha256_json, sha256_tensors

_log = logging.getLogger(__name__)

MICRO_FOLDER = Path(__file__).parent / "micro" / "clip"
"""The small CLIP inside the package; it understands rendered microworld videos and nothing else."""

# Texts that are named when they are cut; thousands of pseudo-queries may be.
_CUTS_NAMED = 3


class ClipBackbone:
    """A frozen open_clip model with its preprocessing and tokenizer.

    Attributes:
        name: The name it was loaded by.
        fingerprint: Hexadecimal SHA-256 of weights, architecture, preprocessing and tokenizer.
        model: The open_clip module: no gradients, `eval()`, float32, on `device`.
        device: Where it runs.
        image_size: Side of its square input pictures in pixels.
        embed_dim: D, the size of the joint space.
        context_length: L, the number of text positions.
        lock: Hold it around every adapter choice and forward pass, and no longer; it is re-entrant.
        adapters: The PEFT model around `model` once prompts have been attached, else None.
        files: Features of videos that lie ready; None encodes every frame.
        template: What stands in front of a sentence where nobody says otherwise.
    """

    reads: tuple[str, ...] = ()
    fps = 2.0
    cross_modal = True
    prompts = None

    def __init__(
        self,
        *,
        name: str,
        model: Any,
        tokenizer: Any,
        config: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.name = name
        self.device = device
        self.lock = threading.RLock()
        self.adapters: Any = None  # a PeftModel around `model` once a grounder attaches prompts
        self.tokenizer = tokenizer
        self.model: Any = model.requires_grad_(False).eval()
        self.model.__dict__["name_or_path"] = name  # PEFT writes it into adapter_config.json
        self.preprocess: dict[str, Any] = dict(self.model.visual.preprocess_cfg)
        size = self.preprocess["size"]
        sides = set(size) if isinstance(size, Sequence) else {size}
        if len(sides) != 1:
            raise BackboneError(f"{name}: it takes {size} pictures; only square ones are supported")
        self.image_size = int(sides.pop())
        self.embed_dim = int(config["embed_dim"])
        text = config.get("text_cfg", {})
        self.context_length = int(
            getattr(tokenizer, "context_length", None) or text.get("context_length", 77)
        )
        if isinstance(self.model.text, HFTextEncoder):
            # What the encoder could read, and 0 for T5's; the tokenizer decides.
            self.model.text.context_length = self.context_length
        self.fingerprint = _fingerprint(self.model, self.preprocess, tokenizer, config)
        self._mean = torch.tensor(self.preprocess["mean"], device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocess["std"], device=device).view(1, 3, 1, 1)
        self.files: FeatureFiles | None = None
        # Other encoders have read sentences as they are, and of any language.
        self.template = "" if isinstance(self.model.text, HFTextEncoder) else TEMPLATE
        self._cut_texts: set[str] = set()

    @contextmanager
    def _at_work(self, model: Any | None) -> Iterator[Any]:
        """Hold the lock around a forward pass; yield what runs it, for None the frozen backbone."""
        with self.lock, nullcontext() if model is not None else adapters_asleep(self.model):
            yield self.model if model is None else model

    @property
    def precision(self) -> str:
        """The arithmetic of `encode_frames`: "bf16" (autocast) on CUDA, else "fp32"."""
        fast = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return "bf16" if fast else "fp32"

    def prompted(self, adapter: str) -> PromptedBackbone:
        """Return it with the prompts of that name in `adapters` at work."""
        return PromptedBackbone(self, adapter)

    def ready(self, path: str | Path) -> FrameFeatures | None:
        """Return features of a file of `files`; frames of videos are encoded.

        Raises:
            VideoError: As of `FeatureFiles.read`.
        """
        return ready(self.files, path, width=self.embed_dim, fingerprint=self.fingerprint)

    def encode_frames(
        self, frames: NDArray[np.uint8] | torch.Tensor, model: Any | None = None
    ) -> torch.Tensor:
        """Encode pictures that already have the backbone's size.

        Args:
            frames: (B, image_size, image_size, 3) uint8 RGB.
            model: A PEFT model around `self.model`; None means the frozen backbone, whatever
                adapters are on it.

        Returns:
            (B, D) float32 on `device`, L2-normalised. Gradients flow when grad mode is on.

        Raises:
            ValueError: Another shape or type.
        """
        pictures = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
        side = self.image_size
        if pictures.dtype != torch.uint8 or tuple(pictures.shape[1:]) != (side, side, 3):
            raise ValueError(
                f"{self.name} takes (B, {side}, {side}, 3) uint8 frames, "
                f"got {tuple(pictures.shape)} {pictures.dtype}"
            )
        if not len(pictures):
            return torch.zeros(0, self.embed_dim, device=self.device)
        pixels = pictures.to(self.device).permute(0, 3, 1, 2).contiguous().float().div_(255)
        pixels = pixels.sub_(self._mean).div_(self._std)
        autocast: Any = nullcontext()
        if self.precision == "bf16":
            autocast = torch.autocast("cuda", dtype=torch.bfloat16)
        with self._at_work(model) as module, autocast:
            features = module.encode_image(pixels)
        return F.normalize(features.float(), dim=-1)

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (B, L) int64 ids; warns of the first three different texts that are cut to L.

        Raises:
            TypeError: `texts` is one string rather than a list of them.
        """
        if isinstance(texts, str):
            raise TypeError("tokenize takes a list of texts, got one str; wrap it in a list")
        listed = list(texts)
        if not listed:
            return torch.zeros(0, self.context_length, dtype=torch.int64)
        with self.lock:  # fast tokenizers keep their padding options in shared state
            ids = self.tokenizer(listed, context_length=self.context_length)
            longer = self.tokenizer(listed, context_length=self.context_length + 1)
        # With one more position, an uncut text ends in padding. ("clips" mode adds a class token.)
        last = -2 if getattr(self.tokenizer, "tokenizer_mode", "") == "clips" else -1
        for text, extra in zip(listed, longer[:, last].tolist(), strict=True):
            if extra == self._pad_id or text in self._cut_texts:
                continue
            if len(self._cut_texts) < _CUTS_NAMED:
                self._cut_texts.add(text)
                more = "" if len(self._cut_texts) < _CUTS_NAMED else " (more are not named)"
                warnings.warn(
                    f"text is cut to {self.context_length} tokens, the most that {self.name} "
                    f"reads{more}: {text!r}",
                    UserWarning,
                    stacklevel=2,
                )
        return torch.as_tensor(ids, dtype=torch.int64)

    @property
    def _pad_id(self) -> int:
        inner = getattr(self.tokenizer, "tokenizer", None)
        pad = getattr(inner, "pad_token_id", None)
        return 0 if pad is None else int(pad)

    def encode_tokens(
        self, ids: torch.Tensor, model: Any | None = None, points: torch.Tensor | None = None
    ) -> TextStates:
        """Encode token ids into pooled and per-token features of the joint space.

        Args:
            ids: (B, L) int64, from `tokenize`.
            model: A PEFT model around `self.model` (context tokens get gradients when grad mode is
                on); None means the frozen backbone, whatever adapters are on it.
            points: (B, 2) places of the tokens that `TextStates.points` is to hold.
        """
        ids = ids.to(self.device)
        if not len(ids):
            width = self.context_length
            empty = torch.zeros(0, width, self.embed_dim, device=self.device)
            return TextStates(pooled=empty[:, 0], tokens=empty, mask=empty[..., 0].bool())
        text = self.model.text
        mask = self._token_mask(ids, text)
        if isinstance(text, HFTextEncoder):  # its encoders look at no padding
            longest = int(mask.sum(dim=1).max())
            ids, mask = ids[:, :longest], mask[:, :longest]
        with self._at_work(model) as module, _capture(text) as states:
            pooled = module.encode_text(ids, normalize=True).float()
            hidden = _joint(text, states[0], ids.shape[1])
        tokens = F.normalize(hidden.float(), dim=-1)
        return TextStates(
            pooled=pooled,
            tokens=tokens,
            mask=mask,
            points=None if points is None else tokens.take_along_dim(points[..., None], 1),
        )

    def encode_text(self, texts: Sequence[str], model: Any | None = None) -> TextStates:
        """Tokenize and encode texts, with `model`'s prompts if given, without gradients."""
        with torch.no_grad():
            return self.encode_tokens(self.tokenize(texts), model=model)

    def relevance(
        self, features: NDArray[np.float32], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (T,) cosines of frame features (T, D) with a query (D,), all of unit length."""
        return np.asarray(features @ query)

    def _token_mask(self, ids: torch.Tensor, text: Any) -> torch.Tensor:
        """Return (B, L) bool, True up to the end-of-text token by the tower's own rule."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        rule = getattr(text, "pool_type", None) if getattr(text, "cls_emb", None) is None else None
        if rule == "argmax":
            return positions <= ids.argmax(dim=-1, keepdim=True)
        if rule == "eos":
            ends: torch.Tensor = ids == text.eos_id
            return positions <= ends.int().argmax(dim=-1, keepdim=True)
        return (ids != self._pad_id) | (positions == 0)


@contextmanager
def _capture(text: Any) -> Iterator[list[Any]]:
    """Collect what the text transformer returns, before pooling."""
    states: list[Any] = []
    handle = text.transformer.register_forward_hook(lambda _m, _i, out: states.append(out))
    try:
        yield states
    finally:
        handle.remove()


def _joint(text: Any, states: Any, length: int) -> torch.Tensor:
    """Put what the text transformer returned through the tower's last norm and projection."""
    if isinstance(text, HFTextEncoder):
        joint: torch.Tensor = text.proj(states.last_hidden_state)
        return joint
    hidden: torch.Tensor = text.ln_final(states[:, :length])  # CoCa adds a class token behind
    projection = text.text_projection
    if isinstance(projection, torch.nn.Module):
        hidden = projection(hidden)
    elif projection is not None:
        hidden = hidden @ projection
    return hidden


def as_backbone(backbone: TunableBackbone | str) -> TunableBackbone:
    """Return a backbone, loaded by `load_backbone` if it is a name."""
    return load_backbone(backbone) if isinstance(backbone, str) else backbone


def load_backbone(name: str | None, device: str | torch.device | None = None) -> ClipBackbone:
    """Load a CLIP model by name.

    Args:
        name: `micro`; `ARCH/TAG` of open_clip such as `ViT-B-32/laion2b_s34b_b79k`;
            `hf-hub:ORG/NAME`; or `local-dir:PATH` (a folder with `open_clip_config.json`, weights,
            and tokenizer files when `text_cfg.hf_tokenizer_name` is set). Named weights that are
            not in the cache yet are downloaded.
        device: Where to run; None follows Accelerate when it is set up, else cuda, mps, cpu
            (`ACCELERATE_USE_CPU=true` keeps to the CPU).

    Raises:
        BackboneError: The name is unknown or its files cannot be had; one line with the way out.
    """
    architecture, tag = _resolve(name)
    chosen = torch.device(device) if device is not None else pick_device()
    try:
        config = open_clip.get_model_config(architecture)
        # The "openai"-style tags were trained with another activation than their architecture's
        # default, which open_clip only warns about: the features would be wrong.
        quick_gelu = bool(
            (open_clip.get_pretrained_cfg(architecture, tag or "") or {}).get("quick_gelu")
        )
        with unfilled():  # a checkpoint that lacks a weight is refused
            model = open_clip.create_model(
                architecture,
                pretrained=tag,
                device=chosen,
                force_custom_text=True,
                force_quick_gelu=quick_gelu,
                require_pretrained=True,
            )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip, hub and safetensors raise a dozen unrelated types
        way_out = "check the files in that folder"
        if not architecture.startswith("local-dir:"):
            way_out = "check the name and the network, or give a downloaded `local-dir:PATH`"
        raise BackboneError(
            f"backbone {name!r} cannot be loaded: {_why(str(name), error)}; {way_out}"
        ) from error
    if quick_gelu:
        config = {**config, "quick_gelu": True}
    backbone = ClipBackbone(
        name=str(name), model=model.float(), tokenizer=tokenizer, config=config, device=chosen
    )
    _log.info("backbone %s (%s) on %s", name, backbone.fingerprint[:12], chosen)
    return backbone


def _why(name: str, error: Exception) -> str:
    """Return why a backbone cannot be loaded: what is not here and cannot be had, or the error."""
    from huggingface_hub import constants

    from zsvg.backbones.offline import missing

    if (wanted := missing(name)) is None:
        return reason(error)
    hub = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else reason(error)
    return (
        f"{wanted.repository} is not on this machine, and cannot be downloaded "
        f"({hub.rpartition('Last error: ')[2]})"
    )


def _resolve(name: str | None) -> tuple[str, str | None]:
    """Return what open_clip calls (model_name, pretrained) for a name of ours."""
    check_backbone(name, open_clip.list_models())
    name = str(name)
    if name == STORED:
        raise BackboneError(
            "there is no tower behind ready features: `tune` and `predict` take sentences from "
            "--text-features; for others name the backbone that made them"
        )
    if name == "micro":
        if not (MICRO_FOLDER / "open_clip_config.json").is_file():
            raise BackboneError(
                "backbone 'micro' is not in this installation; reinstall zsvg, or name another "
                "such as `ViT-B-32/laion2b_s34b_b79k`"
            )
        return f"local-dir:{MICRO_FOLDER}", None
    schema, _, rest = name.partition(":")
    if schema == "local-dir":
        return f"local-dir:{Path(rest).expanduser()}", None
    if schema == "hf-hub":
        return name, None
    architecture, _, tag = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise BackboneError(
            f"unknown weights {tag!r} for {architecture}; open_clip has {', '.join(tags) or 'none'}"
        )
    return architecture, tag


def _fingerprint(
    model: torch.nn.Module,
    preprocess: Mapping[str, Any],
    tokenizer: Any,
    config: Mapping[str, Any],
) -> str:
    """Return the SHA-256 of everything that decides a feature, and of no path."""
    named = {"hf_tokenizer_name", "hf_model_name"}  # may be paths; their content is hashed
    text = {key: value for key, value in config.get("text_cfg", {}).items() if key not in named}
    architecture = {key: value for key, value in config.items() if key != "custom_text"}
    return sha256_json(
        {
            "weights": sha256_tensors(model.state_dict()),
            "architecture": {**architecture, "text_cfg": text},
            "preprocess": dict(preprocess),
            "tokenizer": _tokenizer_identity(tokenizer),
        }
    )


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    identity: dict[str, Any] = {"class": type(tokenizer).__name__}
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary = getattr(tokenizer, "encoder", None) or (inner.get_vocab() if inner else {})
    identity["vocabulary"] = sha256_json(vocabulary)
    return identity
