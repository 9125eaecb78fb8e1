"""What vision-language models and text models are asked while videos are labelled.

Three questions, each to a model of its own if need be: what happens in an event (`look`), how else
a sentence can be said (`rephrase`), and whether it holds in an event and not outside (`verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.captioner import Captioner
from zsvg.backbones.questions import NO_PICTURES, Answering, NoAnswer, Question, introduced
from zsvg.errors import ZsvgError
from zsvg.files import sha256_json
from zsvg.label.instructions import Instructions, load_instructions
from zsvg.label.look import (
    Look,
    asked_for,
    fields_of,
    read_look,
    read_object,
    read_sentences,
    response_format,
)
from zsvg.label.queries import QueryOptions
from zsvg.label.views import VIEWS, Labeller, View

LOOK_TOKENS, SENTENCE_TOKENS, VERDICT_TOKENS = 400, 60, 40
"""Longest answers: to `look`, of each sentence of `rephrase`, and to `verify`."""

HOLDS = {"yes": 1.0, "partly": 0.5, "no": 0.0}
"""What the words of a verdict count."""

_FIELDS = {
    "inside": 'in the moment: "yes", "partly" or "no"',
    "outside": 'in the others: "yes", "partly" or "no"',
}
_MIDDLE = "Pictures {first} to {last} show the moment that is meant, the others what is around it."


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked beside a caption, and whom.

    Attributes:
        instructions: The words. None asks the labeller for a caption, as captioners write them;
            rephrasing and verification then use those of "rich".
        rephraser: Says sentences in other words; None leaves them.
        paraphrases: Of each sentence, at least 1.
        verifier: Judges sentences; None believes them.
    """

    instructions: Instructions | None = None
    rephraser: Answering | None = None
    paraphrases: int = 2
    verifier: Answering | None = None

    def __post_init__(self) -> None:
        if self.paraphrases < 1:
            raise ValueError(f"paraphrases must be at least 1, got {self.paraphrases}")

    @property
    def words(self) -> Instructions:
        """The instructions in use."""
        return self.instructions or load_instructions("rich")

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides labels, as JSON; nothing where nothing is asked."""
        told: dict[str, Any] = {}
        words = self.words
        if self.instructions is not None:
            told["ask"] = sha256_json([words.look, words.parts.model_dump()])
        if self.rephraser is not None:
            told["rephrase"] = [self.rephraser.fingerprint, self.paraphrases, words.rephrase]
        if self.verifier is not None:
            told["verify"] = [self.verifier.fingerprint, words.verify]
        return told


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a sentence holds in an event: 1, 0.5 ("partly") or 0, each.

    Attributes:
        inside: In the event.
        outside: In the rest of the video.
    """

    inside: float
    outside: float

    @property
    def weight(self) -> float:
        """What the label counts: what holds inside; half of it where it holds outside as well."""
        return self.inside * (1 - self.outside / 2)

    @property
    def absent(self) -> bool:
        """Whether the sentence is not true of the video, as far as it was shown."""
        return self.inside == self.outside == 0


def check_asking(asking: Asking, labeller: Labeller | None, queries: QueryOptions) -> None:
    """Refuse questions that the labeller cannot answer, and views that it cannot be shown.

    Raises:
        ZsvgError: It writes captions only, or the options contradict each other.
    """
    asks = asking.instructions is not None
    if not queries.speaks and (asks or asking.rephraser or asking.verifier):
        raise ZsvgError(
            f"form {queries.form!r} has no sentences; leave --ask, --rephrase and --verify out"
        )
    if asks and queries.samples:
        raise ZsvgError("--samples draws captions; with --ask take --rephrase for other wordings")
    for option, model in (("--ask", labeller if asks else None), ("--verify", asking.verifier)):
        if isinstance(model, Captioner) and not model.takes_questions:
            raise ZsvgError(
                f"captioner {model.name!r} takes no instructions; leave {option} out, or name an "
                "image-text-to-text model with a chat template, or openai:MODEL@URL"
            )
    if queries.view == "around" and not asks and isinstance(labeller, Captioner):
        raise ZsvgError(
            "view 'around' is eight pictures for models that are asked (--ask); a captioner of one "
            "picture takes strip, middle or ends"
        )


def look(
    frames: NDArray[np.uint8],
    times: NDArray[np.float64],
    view: View,
    labeller: Answering,
    words: Instructions,
) -> tuple[list[Look], dict[int, str]]:
    """Ask what happens in the events of one video.

    Args:
        frames: (n, k, H, W, 3) uint8, k frames of each event.
        times: (n, k) when they are shown, seconds.
        view: How the k frames lie around the event.
        labeller: Whom to ask.
        words: How.

    Returns:
        What was said of each event, and by its number why nothing was.
    """
    fields = fields_of(words.parts)
    middle = ""
    inside = [i for i, share in enumerate(VIEWS[view], start=1) if 0 <= share < 1]
    if len(inside) < len(VIEWS[view]):
        middle = _MIDDLE.format(first=inside[0], last=inside[-1]) + " "
    end = f"{middle}{words.look} {asked_for(fields)}"
    shown = frames.shape[1]
    found = labeller.answers(
        [
            Question(
                pictures,
                f"{introduced(when)} {end}",
                _decoding(LOOK_TOKENS, response_format(fields)),
                lambda text: read_look(text, shown),
            )
            for pictures, when in zip(frames, times, strict=True)
        ]
    )
    looks = [Look() if isinstance(a, NoAnswer) else read_look(a, shown) for a in found]
    return looks, {i: str(why) for i, why in enumerate(found) if isinstance(why, NoAnswer)}


def rephrase(
    sentences: Sequence[str], asking: Asking
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return sentence -> how else it can be said, and sentence -> why nobody answered."""
    if asking.rephraser is None:
        return {}, {}
    count = asking.paraphrases
    fields = {
        "sentences": ("the other ways", {"type": "array", "items": {"type": "string"}}),
    }
    different = list(dict.fromkeys(sentences))
    found = asking.rephraser.answers(
        [
            Question(
                NO_PICTURES,
                f"{_filled(asking.words.rephrase, count=count, sentence=one)} {asked_for(fields)}",
                _decoding(SENTENCE_TOKENS * count, response_format(fields)),
                read_sentences,
            )
            for one in different
        ]
    )
    said: dict[str, tuple[str, ...]] = {}
    lost: dict[str, str] = {}
    for one, answer in zip(different, found, strict=True):
        if isinstance(answer, NoAnswer):
            lost[one] = str(answer)
        else:
            said[one] = read_sentences(answer)[:count]
    return said, lost


def verify(
    asked: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.float64], int]], asking: Asking
) -> list[Verdict | NoAnswer]:
    """Ask whether sentences hold inside their events, and not outside.

    Args:
        asked: Sentence; (k, H, W, 3) uint8 frames, the ones inside first; (k,) their seconds; and
            how many are inside.
        asking: Whom and how.

    Raises:
        ZsvgError: There is nobody to ask.
    """
    if asking.verifier is None:
        raise ZsvgError("there is no verifier to ask; name one")
    words = {"type": "string", "enum": list(HOLDS)}
    fields = {name: (what, words) for name, what in _FIELDS.items()}
    questions = []
    for sentence, pictures, times, inside in asked:
        others = f"{inside + 1} to {len(pictures)}" if inside < len(pictures) else "none"
        places = {"inside": f"1 to {inside}", "outside": others}
        text = _filled(asking.words.verify, sentence=sentence, **places)
        questions.append(
            Question(
                pictures,
                f"{introduced(times)} {text} {asked_for(fields)}",
                _decoding(VERDICT_TOKENS, response_format(fields)),
                read_verdict,
            )
        )
    found = asking.verifier.answers(questions)
    return [one if isinstance(one, NoAnswer) else read_verdict(one) for one in found]


def read_verdict(text: str) -> Verdict:
    """Read an answer to `verify`: one JSON object, or two words in the order of the fields.

    Raises:
        ValueError: It says neither.
    """
    values = read_object(text)
    words = [values.get(name) for name in _FIELDS] if values else text.lower().split()
    found = [str(word).strip('".,;:!*{}').lower() for word in words]
    held = [HOLDS[word] for word in found if word in HOLDS]
    if len(held) != 2:
        raise ValueError('an answer that does not say "yes", "partly" or "no" twice')
    return Verdict(inside=held[0], outside=held[1])


def _decoding(tokens: int, form: dict[str, Any]) -> dict[str, Any]:
    return {"max_tokens": tokens, "temperature": 0.0, "response_format": form}


def _filled(text: str, **values: Any) -> str:
    """Fill in {names}; other braces of a sentence or of the instructions stay."""
    for name in sorted(values, key="sentence".__eq__):  # last, as it may hold a name itself
        text = text.replace(f"{{{name}}}", str(values[name]))
    return text
