"""Speech as lines: any recogniser of transformers, from a folder or the Hugging Face Hub.

Whisper (Radford et al. 2022) writes the times of its segments itself. Models trained by CTC, as
wav2vec 2.0, emit letters at frames, which are put together between pauses. Others say nothing of
times: what they write stands for the stretch that they heard.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from zsvg.backbones.base import pick_device
from zsvg.backbones.names import check_recogniser
from zsvg.backbones.quiet import quiet
from zsvg.errors import BackboneError
from zsvg.files import sha256_tensors
from zsvg.transcripts.lines import Cue, Line, rows_of, tidy
from zsvg.transcripts.sound import Stretch, stretches

_log = logging.getLogger(__name__)

_SILENT = 1e-3  # of full scale: 60 dB below it. Whisper is known to make up words for silence.
_SHORTEST = 0.1  # seconds; no word is shorter, and some models take no less
_TIMELESS = 10.0  # seconds of a stretch where the model says no times
_PAUSE = 0.7  # seconds between letters of CTC that end a line
_LASTING = 6.0  # seconds after which a line of CTC ends with the word; twice that, anywhere


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """How speech is recognised.

    Attributes:
        language: Code such as "en", which multilingual Whisper is told, and lines have; "" lets
            Whisper hear it in each stretch.
        window: Seconds of sound that are recognised at once; Whisper takes 30 at most.
        batch_size: Stretches per forward pass.
    """

    language: str = ""
    window: float = 30.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.window <= 600:
            raise ValueError(f"window must be 1 to 600 seconds, got {self.window}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


class Recogniser:
    """A frozen recogniser of speech. One lock covers each pass, so that threads may share it.

    Attributes:
        name: As given to `load_recogniser`.
        fingerprint: SHA-256 of weights, features and tokenizer; the device does not change it.
        options: How speech is recognised.
        device: Where the model is.
        window: Seconds of sound that it hears at once.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        extractor: Any,
        tokenizer: Any,
        *,
        device: str | torch.device = "cpu",
        options: SpeechOptions | None = None,
    ) -> None:
        self.name = name
        self.options = options or SpeechOptions()
        self.device = torch.device(device)
        self.fingerprint = _fingerprint(model, extractor, tokenizer)
        self.lock = threading.RLock()
        # As captioners: not worse, half the time on CUDA, and emulated by CPUs.
        self._dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = model.to(self.device, self._dtype).eval().requires_grad_(False)
        self.extractor = extractor
        self.tokenizer = tokenizer
        self._whisper = model.config.model_type == "whisper"
        self._generates = bool(model.can_generate())
        generation = model.generation_config if self._generates else None
        self._spoken = getattr(generation, "lang_to_id", None) if self._whisper else None
        # Whisper's last token that is none of its times; outdated copies of it do not tell.
        self._last_word: int | None = (
            getattr(generation, "no_timestamps_token_id", None) if self._whisper else None
        )
        self._spells = isinstance(tokenizer, transformers.Wav2Vec2CTCTokenizer)
        timed = self._spells if not self._generates else self._last_word is not None
        longest = extractor.chunk_length if self._whisper else math.inf
        self.window = min(self.options.window, longest, math.inf if timed else _TIMELESS)
        code = f"<|{self.options.language}|>"
        if self.options.language and self._spoken and code not in self._spoken:
            raise BackboneError(
                f"recogniser {name!r} does not know the language {self.options.language!r}; it "
                f"knows {', '.join(sorted(token[2:-2] for token in self._spoken))}"
            )

    def transcribe(self, video: str | Path) -> list[Line]:
        """Return what is said in a video.

        Silence is not put to the model. Decoding is greedy, without randomness.

        Returns:
            Lines in order of time, within the sound; none where nothing is heard.

        Raises:
            TranscriptError: The video has no sound that can be decoded.
            VideoError: It cannot be opened as a video.
        """
        heard = stretches(video, self.extractor.sampling_rate, self.window)
        loud = (
            stretch
            for stretch in heard
            if stretch.length >= _SHORTEST and np.abs(stretch.samples).max() >= _SILENT
        )
        lines: list[Line] = []
        while batch := list(islice(loud, self.options.batch_size)):
            for stretch, (language, cues) in zip(batch, self._recognised(batch), strict=True):
                lines += tidy(_placed(cues, stretch), language, self.name)
        return lines

    def _recognised(self, batch: Sequence[Stretch]) -> list[tuple[str, list[Cue]]]:
        """Return the language of each stretch and what is said in it, seconds from its start."""
        with self.lock, quiet(), torch.inference_mode():
            # Whisper hears 30 s, be they silent; others are given as much as the longest has.
            padding = {"return_attention_mask": True} if self._whisper else {"padding": True}
            inputs = self.extractor(
                [stretch.samples for stretch in batch],
                sampling_rate=self.extractor.sampling_rate,
                return_tensors="pt",
                **padding,
            )
            inputs = {
                key: value.to(self.device, self._dtype if value.is_floating_point() else None)
                for key, value in inputs.items()
            }
            if self._generates:
                return self._generated(inputs, batch)
            frames = self.model(**inputs).logits.argmax(-1).tolist()
        step = max(stretch.length for stretch in batch) / len(frames[0])
        return [
            (self.options.language, self._spelled(row[: math.ceil(stretch.length / step)], step))
            for row, stretch in zip(frames, batch, strict=True)
        ]

    def _generated(
        self, inputs: dict[str, Any], batch: Sequence[Stretch]
    ) -> list[tuple[str, list[Cue]]]:
        languages = [self.options.language] * len(batch)
        more: dict[str, Any] = {}
        if self._spoken:
            if not self.options.language:
                codes = {number: token[2:-2] for token, number in self._spoken.items()}
                found = self.model.detect_language(inputs["input_features"]).tolist()
                languages = [codes[number] for number in found]
            more = {"language": languages, "task": "transcribe"}
        if self._last_word is not None:
            more["return_timestamps"] = True
        written = self.model.generate(**inputs, do_sample=False, num_beams=1, **more).tolist()
        return [
            (language, list(self._segments(tokens, stretch.length)))
            for language, tokens, stretch in zip(languages, written, batch, strict=True)
        ]

    def _segments(self, tokens: list[int], length: float) -> Iterator[Cue]:
        """Yield what stands between the times that Whisper wrote; without one, to the end."""
        start, words = 0.0, list[int]()
        for token in tokens:
            if self._last_word is None or token <= self._last_word:
                words.append(token)
                continue
            step = self.extractor.chunk_length / self.model.config.max_source_positions
            time = (token - self._last_word - 1) * step
            yield Cue(start, time, self._rows(words))
            start, words = time, []
        yield Cue(start, length, self._rows(words))

    def _rows(self, tokens: list[int]) -> tuple[str, ...]:
        return rows_of(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _spelled(self, frames: list[int], step: float) -> list[Cue]:
        """Return the letters of CTC's frames, put together between pauses."""
        if not self._spells:
            return [Cue(0.0, len(frames) * step, self._rows(frames))]
        special = set(self.tokenizer.all_special_tokens)
        decoded = self.tokenizer.decode(frames, output_char_offsets=True)
        return _joined(
            (letter["char"], letter["start_offset"] * step, letter["end_offset"] * step)
            for letter in decoded["char_offsets"] or ()
            if letter["char"] not in special
        )


def _joined(letters: Iterable[tuple[str, float, float]]) -> list[Cue]:
    """Put letters (text, start, end) together to lines: between pauses, and not too long."""
    cues: list[Cue] = []
    text, start, until = "", 0.0, 0.0
    for letter, begins, ends in letters:
        lasted = until - start if letter.isspace() else (until - start) / 2
        if text and (begins - until >= _PAUSE or lasted >= _LASTING):
            cues.append(Cue(start, until, rows_of(text)))
            text = ""
        if letter.isspace():
            text += letter if text else ""
            continue
        if not text:
            start = begins
        text, until = text + letter, ends
    return [*cues, Cue(start, until, rows_of(text))]


def _placed(cues: Iterable[Cue], stretch: Stretch) -> Iterator[Cue]:
    """Yield cues of a stretch at their time in the video; what begins after its end is made up."""
    for cue in cues:
        if cue.start < stretch.length:
            end = cue.end if cue.end > cue.start else stretch.length
            yield Cue(stretch.start + cue.start, stretch.start + min(end, stretch.length), cue.rows)


def load_recogniser(
    name: str,
    device: str | None = None,
    *,
    allow_download: bool = False,
    options: SpeechOptions | None = None,
) -> Recogniser:
    """Load a recogniser of speech by name.

    Args:
        name: A folder (with or without the prefix "local-dir:"), or an ORG/NAME of the Hugging Face
            Hub: Whisper, or another model of transformers that generates text from sound or was
            trained by CTC.
        device: As torch names it; None chooses as for backbones, see `pick_device`.
        allow_download: Fetch it if it is not on this machine.
        options: How speech is recognised.

    Raises:
        BackboneError: If the name is unknown, or the model cannot be loaded whole.
    """
    check_recogniser(name)
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    local = folder.is_dir()
    source = str(folder) if local else name
    offline = {"local_files_only": local or not allow_download}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(source, **offline)
            by_ctc = any(kind.endswith("ForCTC") for kind in config.architectures or ())
            family = (
                transformers.AutoModelForCTC if by_ctc else transformers.AutoModelForSpeechSeq2Seq
            )
            model, report = family.from_pretrained(
                source, dtype="auto", output_loading_info=True, **offline
            )
            extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **offline)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **offline)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        way_out = "check the files in that folder"
        if not local:
            way_out = "check the name and the network, or give a folder with a downloaded one"
        if not local and not allow_download:
            way_out = (
                "if it is not on this machine, --allow-download (in Python `allow_download=True`) "
                "fetches it"
            )
        raise BackboneError(
            f"recogniser {name!r} cannot be loaded: {reason[0].rstrip('.')}; {way_out}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random values in their place.
        raise BackboneError(
            f"recogniser {name!r} lacks {len(missing)} weights ({missing[0]}, ...): it is not a "
            f"whole {type(model).__name__}"
        )
    recogniser = Recogniser(
        name, model, extractor, tokenizer, device=device or pick_device(), options=options
    )
    _log.info("recogniser %s (%s) on %s", name, recogniser.fingerprint[:12], recogniser.device)
    return recogniser


def _fingerprint(model: Any, extractor: Any, tokenizer: Any) -> str:
    """Hash weights as loaded (before any cast for the device) and what prepares their input."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    generation = model.generation_config if model.can_generate() else None
    described = {
        "weights": sha256_tensors(model.state_dict()),
        "architecture": type(model).__name__,
        "generation": generation.to_diff_dict() if generation else {},
        "sound": json.loads(extractor.to_json_string()),
        "tokenizer": backend.to_str() if backend else sorted(tokenizer.get_vocab().items()),
    }
    described["generation"].pop("transformers_version", None)
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
