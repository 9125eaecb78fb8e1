"""A frozen image captioner by name: BLIP, or another image-text-to-text model of transformers."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from zsvg.backbones.base import pick_device
from zsvg.backbones.names import check_captioner
from zsvg.backbones.questions import NoAnswer, Question, checked
from zsvg.backbones.quiet import quiet
from zsvg.errors import BackboneError
from zsvg.files import sha256_tensors

_log = logging.getLogger(__name__)

MICRO = Path(__file__).parent / "micro" / "blip"

# Asked of models that take instructions; BLIP and its like caption without being asked.
PROMPT = "Describe in one short sentence what happens."


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """How captions are decoded.

    Attributes:
        max_new_tokens: Longest caption, in tokens of the captioner.
        num_beams: 1 is greedy.
        top_p: Nucleus of `Captioner.sample` (SPL: .9).
        batch_size: Images per forward pass.
    """

    max_new_tokens: int = 20
    num_beams: int = 1
    top_p: float = 0.9
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")


class Captioner:
    """A frozen captioner. One lock covers each call, so that threads may share it.

    Attributes:
        name: As given to `load_captioner`.
        fingerprint: SHA-256 of weights, processor and tokenizer; the device does not change it.
        options: How captions are decoded.
        image_size: Side of the square that the model sees, pixels (448 where it has none).
        device: Where the model is.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        processor: Any,
        *,
        device: str | torch.device = "cpu",
        options: CaptionOptions | None = None,
    ) -> None:
        self.name = name
        self.options = options or CaptionOptions()
        self.device = torch.device(device)
        self.fingerprint = _fingerprint(model, processor)
        self.image_size = _image_size(processor)
        self.lock = threading.RLock()
        # Greedy decoding of bfloat16 is not worse and halves the time on CUDA; CPUs emulate it.
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = model.to(self.device, dtype).eval().requires_grad_(False)
        self.processor = processor
        self._dtype = dtype
        self._is_blip = model.config.model_type == "blip"
        self._asks = bool(getattr(processor, "chat_template", None))
        if self._asks:
            processor.tokenizer.padding_side = "left"  # The answers start in one column.

    def caption(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """Return one caption per image, greedy or by beam search, without randomness.

        Args:
            images: (H, W, 3) uint8 each; any size, the processor resizes.

        Returns:
            As many strings; one may be empty.
        """
        return self._generate(images, 1, do_sample=False, num_beams=self.options.num_beams)

    def sample(
        self, images: Sequence[NDArray[np.uint8]], samples: int, *, seed: int
    ) -> list[list[str]]:
        """Return `samples` captions per image by nucleus sampling.

        A draw depends on the seed and on the images that share its batch. The caller's random
        state is not touched.

        Args:
            images: (H, W, 3) uint8 each.
            samples: Captions per image, at least 1. They may repeat.
            seed: Batch b draws from the stream (seed, b).

        Returns:
            For each image its captions.

        Raises:
            ValueError: If samples < 1.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        nucleus = {"do_sample": True, "num_beams": 1, "top_p": self.options.top_p}
        flat = self._generate(images, samples, seed=seed, top_k=0, temperature=1.0, **nucleus)
        return [flat[i : i + samples] for i in range(0, len(flat), samples)]

    @property
    def takes_questions(self) -> bool:
        """Whether the model has a chat template, so that it can be asked."""
        return self._asks

    def answers(self, questions: Sequence[Question]) -> list[str | NoAnswer]:
        """Return the answer to each question, whose pictures are shown as several images.

        Each is asked for itself, without randomness: how much memory several pictures take differs
        between models by orders of magnitude.

        Raises:
            BackboneError: The model takes no questions.
        """
        if not self._asks:
            raise BackboneError(f"captioner {self.name!r} has no chat template to ask it with")
        found: list[str | NoAnswer] = []
        for question in questions:
            inputs = self._asked([list(question.pictures)], question.text)
            with self.lock, quiet(), torch.inference_mode():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=int(question.fields["max_tokens"]),
                    do_sample=False,
                    num_beams=self.options.num_beams,
                )
            said = tokens[:, inputs["input_ids"].shape[1] :]
            (text,) = self.processor.batch_decode(said, skip_special_tokens=True)
            found.append(checked(question, " ".join(text.split())))
        return found

    def _asked(self, images: list[list[NDArray[np.uint8]]], text: str) -> dict[str, Any]:
        """Return what `generate` takes of rows that show as many images each, behind one text."""
        content: list[dict[str, str]] = [{"type": "image"} for _ in images[0]]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": [*content, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
        )
        inputs = self.processor(
            images=images, text=[prompt] * len(images), padding=True, return_tensors="pt"
        )
        return self._placed(inputs)

    def _placed(self, inputs: Any) -> dict[str, Any]:
        return {
            key: value.to(self.device, self._dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
        }

    def _generate(
        self,
        images: Sequence[NDArray[np.uint8]],
        samples: int,
        *,
        seed: int | None = None,
        **decoding: Any,
    ) -> list[str]:
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"images are (H, W, 3) uint8, got {image.dtype} {image.shape}")
        texts: list[str] = []
        size = self.options.batch_size
        cuda = [self.device] if self.device.type == "cuda" else []
        for batch, first in enumerate(range(0, len(images), size)):
            forked = torch.random.fork_rng(devices=cuda)
            with self.lock, quiet(), torch.inference_mode(), forked:
                if seed is not None:
                    mixed = hashlib.sha256(f"{seed} {batch}".encode()).digest()
                    torch.manual_seed(int.from_bytes(mixed[:7], "big"))
                inputs = self._inputs(list(images[first : first + size]))
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=self.options.max_new_tokens,
                    num_return_sequences=samples,
                    **decoding,
                )
            # What was asked is not part of the answer; nor is BLIP's start token, which its
            # tokenizer does not know to be special.
            asked = inputs["input_ids"].shape[1] if self._asks else int(self._is_blip)
            decoded = self.processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)
            texts += [" ".join(text.split()) for text in decoded]
        return texts

    def _inputs(self, images: list[NDArray[np.uint8]]) -> dict[str, Any]:
        """Return what `generate` takes, on the device."""
        if self._asks:
            return self._asked([[image] for image in images], PROMPT)
        return self._placed(self.processor(images=images, return_tensors="pt"))


def load_captioner(
    name: str | None, device: str | None = None, *, options: CaptionOptions | None = None
) -> Captioner:
    """Load a captioner by name.

    Args:
        name: "micro" (embedded, understands only microworld), a folder (with or without the prefix
            "local-dir:"), or an ORG/NAME of the Hugging Face Hub, which is downloaded once.
        device: As torch names it; None chooses as for backbones, see `pick_device`.
        options: How captions are decoded.

    Raises:
        BackboneError: If the name is None or unknown, or the model cannot be loaded whole.
    """
    check_captioner(name)
    name = str(name)
    bare = name.removeprefix("local-dir:")
    folder = MICRO if name == "micro" else Path(bare).expanduser()
    local = bool(bare) and folder.is_dir()
    if name == "micro" and not local:
        raise BackboneError("captioner 'micro' is missing from this installation; reinstall zsvg")
    source = str(folder) if local else name
    offline = {"local_files_only": local}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(source, **offline)
            if config.model_type == "blip":
                model_class = transformers.BlipForConditionalGeneration
            else:
                model_class = transformers.AutoModelForImageTextToText
            model, report = model_class.from_pretrained(
                source, dtype="auto", output_loading_info=True, **offline
            )
            processor = transformers.AutoProcessor.from_pretrained(source, **offline)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        way_out = "check the files in that folder"
        if not local:
            way_out = "check the name and the network, or give a folder with a downloaded one"
        raise BackboneError(
            f"captioner {name!r} cannot be loaded: {reason[0].rstrip('.')}; {way_out}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random values in their place.
        raise BackboneError(
            f"captioner {name!r} lacks {len(missing)} weights ({missing[0]}, ...): it is not a "
            f"whole {model_class.__name__}"
        )
    if not (hasattr(processor, "image_processor") and hasattr(processor, "tokenizer")):
        raise BackboneError(
            f"captioner {name!r} has no processor for both images and text, only a "
            f"{type(processor).__name__}"
        )
    captioner = Captioner(name, model, processor, device=device or pick_device(), options=options)
    _log.info("captioner %s (%s) on %s", name, captioner.fingerprint[:12], captioner.device)
    return captioner


def strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay four frames out in a 2 x 2 grid, row by row.

    A square grid, because captioners squeeze what they get into a square.

    Args:
        frames: (4, H, W, 3) uint8 in time order.

    Returns:
        (2 H, 2 W, 3) uint8.
    """
    if frames.ndim != 4 or len(frames) != 4:
        raise ValueError(f"a strip takes (4, H, W, 3) frames, got shape {frames.shape}")
    _, height, width, channels = frames.shape
    rows: NDArray[np.uint8] = frames.reshape(2, 2, height, width, channels).swapaxes(1, 2)
    return rows.reshape(2 * height, 2 * width, channels)


def _fingerprint(model: Any, processor: Any) -> str:
    """Hash weights as loaded (before any cast for the device) and what prepares their input."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = {
        "weights": sha256_tensors(model.state_dict()),
        "architecture": type(model).__name__,
        "generation": model.generation_config.to_diff_dict(),
        "images": json.loads(processor.image_processor.to_json_string()),
        "tokenizer": backend.to_str() if backend else sorted(tokenizer.get_vocab().items()),
        "prompt": PROMPT if getattr(processor, "chat_template", None) else None,
        "template": getattr(processor, "chat_template", None),
    }
    described["generation"].pop("transformers_version", None)
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _image_size(processor: Any) -> int:
    """Return the side of the square that the processor resizes or crops to, or 448.

    Not `shortest_edge`: for some models that is a number of pixels, not a side.
    """
    images = processor.image_processor
    for name in ("crop_size", "size"):
        size = dict(getattr(images, name, None) or {})
        if size.get("height") and size.get("height") == size.get("width"):
            return int(size["height"])
    return 448
