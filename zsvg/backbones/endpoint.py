"""A captioner behind an endpoint: any vision-language model that speaks OpenAI's chat protocol.

vLLM, SGLang, llama.cpp, Ollama, `transformers serve` and hosted services do. It is shown several
frames of an event as several pictures, in the order of time and with their seconds. Answers are
kept, so that nothing is asked, or paid for, twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.captioner import PROMPT, Captioner, CaptionOptions, load_captioner
from zsvg.backbones.chat import KEY, Chat
from zsvg.backbones.names import endpoint_of
from zsvg.backbones.questions import MANY, ONE, NoAnswer, Question, introduced
from zsvg.errors import BackboneError, ZsvgError
from zsvg.features.answers import keep_answer, kept_answer
from zsvg.files import sha256_json

_log = logging.getLogger(__name__)

FORMAT = 1
"""Part of what answers are kept by: raise it when what is asked changes in another way."""

PICTURE = 448
"""Side of the pictures that are sent, pixels."""

PICTURE_TOKENS, LETTERS, ANSWER_TOKENS = 256, 4, 30
"""For the forecast: tokens of a picture (one for 28 x 28 pixels), letters of a token, tokens of an
answer in one sentence."""

_ASK = PROMPT + " Answer with the sentence alone, and speak neither of pictures nor of times."


class Errand(NamedTuple):
    """What an endpoint is to be asked, at most.

    Attributes:
        requests: How many.
        images: In all of them.
        letters: Of the text of one.
        tokens: Of one answer, about.
    """

    requests: int
    images: int
    letters: int = len(MANY + _ASK)
    tokens: int = ANSWER_TOKENS

    def times(self, videos: int) -> Errand:
        """Return the same of so many videos."""
        return self._replace(requests=self.requests * videos, images=self.images * videos)

    @property
    def estimate(self) -> tuple[int, int]:
        """About how many tokens the requests take, and how many the answers have."""
        words = self.requests * self.letters // LETTERS
        return self.images * PICTURE_TOKENS + words, self.requests * self.tokens


class Endpoint:
    """A vision-language model behind an endpoint. Nothing is sent before it is asked.

    Attributes:
        name: As given: openai:MODEL@URL.
        chat: The model behind its address.
        kept: How many answers were those of earlier runs.
        options: How answers are decoded, as far as the server takes it.
        fingerprint: Hash of the model's name and of the question. Not of the URL: the server may
            move. Of the weights nothing is known.
        image_size: Side of the square pictures that it is sent, pixels.
    """

    image_size = PICTURE

    def __init__(
        self,
        name: str,
        *,
        cache: str | Path | None = None,
        requests: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Take an address.

        Args:
            name: openai:MODEL@URL.
            cache: Folder of answers, one JSON file each; None keeps none.
            requests: Most requests in flight, see `Chat`.
            timeout: Seconds of silence after which a request failed, see `Chat`.

        Raises:
            BackboneError: It is no such name, or there is nothing to ask with.
            ValueError: Less than one request.
        """
        address = endpoint_of(name)
        if address is None:
            raise BackboneError(f"{name!r} names no endpoint; say openai:MODEL@URL")
        self.name = name.rstrip("/")
        self.chat = Chat(address, requests=requests, timeout=timeout)
        self.kept = 0
        self.options = CaptionOptions(max_new_tokens=100)
        self.fingerprint = sha256_json([FORMAT, address.model, ONE, MANY, _ASK, PICTURE])
        self._cache = cache

    def describe(
        self,
        frames: NDArray[np.uint8],
        times: NDArray[np.float64],
        *,
        samples: int = 0,
        seed: int = 0,
    ) -> tuple[list[list[str]], dict[int, str]]:
        """Say what happens in the events of one video.

        Args:
            frames: (n, k, H, W, 3) uint8, k frames of each event in the order of time.
            times: (n, k) when they are shown, seconds.
            samples: Answers drawn per event; 0 for one, as little random as the server can.
            seed: Of the draws.

        Returns:
            The answers of each event, and by its number why an event has none. What was answered
            is kept, also where another answer to the same event is missing.

        Raises:
            EndpointError: There is no server, it refuses all, or fails again and again.
        """
        draws: list[int | None] = list(range(samples)) or [None]
        found = self.answers(
            [
                self._question(shown, when, seed, draw)
                for shown, when in zip(frames, times, strict=True)
                for draw in draws
            ]
        )
        texts: list[list[str]] = []
        lost: dict[int, str] = {}
        for number in range(len(frames)):
            own = found[number * len(draws) : (number + 1) * len(draws)]
            if why := [answer for answer in own if isinstance(answer, NoAnswer)]:
                lost[number] = str(why[0])
            texts.append([] if why else [answer for answer in own if isinstance(answer, str)])
        return texts, lost

    def answers(self, questions: Sequence[Question]) -> list[str | NoAnswer]:
        """Return the answer to each question, or why there is none.

        Equal questions are asked once, and those that were answered before not at all.

        Raises:
            EndpointError: There is no server, it refuses all, or fails again and again.
        """
        asked = [self._decides(question) for question in questions]
        keys = [sha256_json(decides) for decides in asked]
        decides, wanted = (
            dict(zip(keys, asked, strict=True)),
            dict(zip(keys, questions, strict=True)),
        )
        found: dict[str, str | NoAnswer] = {}
        if self._cache is not None:
            known = {key: kept_answer(self._cache, decides[key]) for key in wanted}
            found = {key: answer for key, answer in known.items() if answer is not None}
        self.kept += len(found)
        if missing := {key: one for key, one in wanted.items() if key not in found}:
            found |= self.chat.ask(missing, lambda key, text: self._keep(decides[key], text))
        return [found[key] for key in keys]

    def announcement(self, errand: Errand) -> str:
        """Return what is about to leave this machine, and where it goes, as text."""
        key = f", with the key of ${KEY}" if self.chat.with_key else ""
        what = f"{errand.images:,} images" if errand.images else "text, no image,"
        return f"{self.chat} is sent at most {what} in {errand.requests:,} requests{key}"

    def summary(self, price: tuple[float, float] | None = None) -> str:
        """Return what was asked, as text.

        Args:
            price: Of a million tokens in and out, in any currency.
        """
        told = self.chat.told
        line = f"{self.chat}: {told['asked']} answers, {self.kept} more of earlier runs"
        line += f", {told['lost']} lost" if told["lost"] else ""
        if told["in"]:
            line += f"; {told['in']:,} tokens in, {told['out']:,} out"
            line += "" if price is None else f", {cost(told['in'], told['out'], price):.4f} in all"
        return line

    def _question(
        self, frames: NDArray[np.uint8], times: NDArray[np.float64], seed: int, draw: int | None
    ) -> Question:
        decoding: dict[str, Any] = {"max_tokens": self.options.max_new_tokens, "temperature": 0.0}
        if draw is not None:
            mixed = hashlib.sha256(f"{seed} {draw}".encode()).digest()
            own = int.from_bytes(mixed[:4], "big") >> 1  # servers take 31 bits
            decoding |= {"temperature": 1.0, "top_p": self.options.top_p, "seed": own}
        return Question(frames, f"{introduced(times)} {_ASK}", decoding)

    def _decides(self, question: Question) -> dict[str, Any]:
        """Return all that decides an answer, by which it is kept."""
        return {
            "format": FORMAT,
            "model": self.chat.address.model,
            "text": question.text,
            "frames": hashlib.sha256(question.pictures.tobytes()).hexdigest(),
            "shape": list(question.pictures.shape),
            "decoding": dict(question.fields),
        }

    def _keep(self, asked: dict[str, Any], answer: str) -> None:
        if self._cache is None:
            return
        try:
            keep_answer(self._cache, asked, answer)
        except (OSError, ZsvgError) as error:  # full, only to read, or no folder
            told = getattr(error, "strerror", None) or error
            _log.warning("answers cannot be kept in %s (%s); going on", self._cache, told)
            self._cache = None


def load_labeller(
    name: str | None,
    device: str | None = None,
    *,
    cache: str | Path | None = None,
    requests: int | None = None,
    timeout: float | None = None,
) -> Captioner | Endpoint:
    """Load a captioner, or take the address of one behind an endpoint.

    Args:
        name: As `load_captioner` takes it, or openai:MODEL@URL.
        device: Of a captioner on this machine.
        cache: Folder of answers of an endpoint.
        requests: Most requests in flight to an endpoint.
        timeout: Seconds of silence after which a request to an endpoint failed.

    Raises:
        BackboneError: The name is None or unknown, or the model cannot be loaded.
    """
    if name is not None and endpoint_of(name) is not None:
        return Endpoint(name, cache=cache, requests=requests, timeout=timeout)
    return load_captioner(name, device)


def cost(tokens_in: int, tokens_out: int, price: tuple[float, float]) -> float:
    """Return what tokens cost at a price of a million of them, in and out."""
    return (tokens_in * price[0] + tokens_out * price[1]) / 1e6
