"""Questions to models that answer in words, wherever these run: what is asked, and of whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

NO_PICTURES: NDArray[np.uint8] = np.zeros((0, 1, 1, 3), np.uint8)
"""Of a question about words alone."""

ONE = "The picture is the frame of a video at {seconds} s."
MANY = "The {count} pictures are frames of one video, in this order, at {seconds} s."


class NoAnswer(Exception):
    """Why a question has no answer."""


class Question(NamedTuple):
    """What is asked once.

    Attributes:
        pictures: (k, H, W, 3) uint8, shown before the text; none of a question about words.
        text: The question.
        fields: How the answer is decoded: fields of a request of OpenAI's chat protocol, which a
            server may refuse. A model on this machine knows "max_tokens".
        check: Raises a ValueError that says what is wrong with an answer; it is then none.
    """

    pictures: NDArray[np.uint8]
    text: str
    fields: Mapping[str, Any]
    check: Callable[[str], object] = str


class Answering(Protocol):
    """A model that answers questions: behind an endpoint, or on this machine.

    Attributes:
        name: As it was given.
        fingerprint: Of what answers.
        image_size: Side of the square pictures that it is shown, pixels.
    """

    name: str
    fingerprint: str
    image_size: int

    def answers(self, questions: Sequence[Question]) -> list[str | NoAnswer]:
        """Return the answer to each question, or why there is none."""
        ...


def introduced(times: Sequence[float] | NDArray[np.float64]) -> str:
    """Return the sentence that says when the pictures of a question are shown, in seconds."""
    seconds = ", ".join(f"{time:.1f}" for time in times)
    return (ONE if len(times) == 1 else MANY).format(count=len(times), seconds=seconds)


def checked(question: Question, text: str) -> str | NoAnswer:
    """Return an answer, or why it is none."""
    try:
        question.check(text)
    except ValueError as error:
        return NoAnswer(str(error))
    return text
