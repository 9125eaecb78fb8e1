"""Tokens behind every query, some of them learned; two of those point at frames (after PPT).

Queries differ in length, so the places of these tokens are counted from the end token. They are put
there as token ids, not as text: no tokenizer needs to know a placeholder, none can merge it with
the query's last word, and a query that is too long is cut, never what follows it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zsvg.errors import BackboneError, RecipeError
from zsvg.tuners.checks import checked

POINTS = {
    "ppt": ", starts at frame [S] and ends at frame [E]",
    "ppt-ps": ", start [S] end [E]",
    "ppt-p": "[S] [E]",
    "ppt-pc": "[C] [S] [C] [E]",
}
"""What follows a query, in the words of PPT's variants: of learned tokens [S] and [E] point."""

# Any tokenizer makes one token of it; learned tokens hold its place and start from its embedding.
_FILLER = "a"
_MARK = re.compile(r"\[([A-Z])\]")


@dataclass(frozen=True, kw_only=True)
class Suffix:
    """What follows every query.

    Attributes:
        text: Words and marks, such as "starts at [S] and ends at [E]".
        ids: Their n token ids, fillers at the marks.
        marks: By token, the letter of its mark; "" where the token is an ordinary word.
        end: Id of the end token.
        pad: Id that fills the places behind it.
    """

    text: str
    ids: tuple[int, ...]
    marks: tuple[str, ...]
    end: int
    pad: int

    @property
    def learned(self) -> list[int]:
        """Places of the learned tokens among the n."""
        return [place for place, mark in enumerate(self.marks) if mark]

    def complete(self, ids: Tensor) -> Tensor:
        """Put the suffix between texts (B, L) and their end tokens; cut texts that are too long.

        Warns:
            UserWarning: How many texts were cut.
        """
        count, length = ids.shape
        room = length - 1 - len(self.ids)
        stop = self._ends(ids)
        if cut := int((stop > room).sum()):
            warnings.warn(
                f"{cut} text{'s are' if cut > 1 else ' is'} cut to {room} tokens, so that "
                f"{self.text!r} fits behind",
                UserWarning,
                stacklevel=3,
            )
        stop = stop.clamp(max=room)[:, None]
        places = torch.arange(length, device=ids.device)
        tail = torch.tensor([*self.ids, self.end], device=ids.device)
        kept = torch.where(places < stop, ids, self.pad)
        return kept.scatter(1, stop + places[: len(tail)], tail.expand(count, -1))

    def places(self, ids: Tensor) -> Tensor:
        """Return the places (B, n) of the suffix in token ids (B, L).

        Raises:
            ValueError: A text does not end with it.
        """
        first = self._ends(ids)[:, None] - len(self.ids)
        places = first + torch.arange(len(self.ids), device=ids.device)
        expected = torch.tensor(self.ids, device=ids.device)
        return checked(
            places,
            (first >= 0) & (ids.gather(1, places.clamp(min=0)) == expected),
            f"every text must end with the adapter's {self.text!r}: put token ids through the "
            "adapter's `PromptConfig.complete`",
        )

    def points(self, ids: Tensor) -> Tensor:
        """Return the places (B, 2) of [S] and [E] in token ids (B, L) that end with the suffix."""
        return self.places(ids)[:, [self.marks.index("S"), self.marks.index("E")]]

    def _ends(self, ids: Tensor) -> Tensor:
        """Return the place (B,) of each text's first end token; L where it has none."""
        found = ids == self.end
        return torch.where(found.any(1), found.int().argmax(1), ids.shape[1])


def make_suffix(tokenizer: Callable[[list[str]], Tensor], text: str) -> tuple[Suffix, int]:
    """Tokenise a suffix such as "starts at [S] and ends at [E]".

    Returns:
        The suffix, and how many tokens the tokenizer puts in front of a text.

    Raises:
        RecipeError: There is not one [S] and one [E], or another mark than these and [C].
        BackboneError: The tokenizer does not make one token of the filler.
    """
    words = text.split()
    found = [match[1] if (match := _MARK.fullmatch(word)) else "" for word in words]
    if found.count("S") != 1 or found.count("E") != 1 or not set(found) <= {"", "S", "E", "C"}:
        raise RecipeError(
            f"suffix {text!r} needs the words [S] and [E] once each, and no other mark but [C]"
        )
    spoken = [_FILLER if mark else word for mark, word in zip(found, words, strict=True)]
    empty, filler, *rows = tokenizer(["", _FILLER, *spoken]).tolist()
    start = next(i for i, pair in enumerate(zip(empty, filler, strict=True)) if len(set(pair)) == 2)
    end, pad = empty[start : start + 2]
    parts = [row[start : row.index(end, start)] for row in rows]
    if any(len(part) != 1 for part, mark in zip(parts, found, strict=True) if mark):
        raise BackboneError(f"the tokenizer does not make one token of the word {_FILLER!r}")
    suffix = Suffix(
        text=text,
        ids=tuple(i for part in parts for i in part),
        marks=tuple(mark for part, mark in zip(parts, found, strict=True) for _ in part),
        end=end,
        pad=pad,
    )
    return suffix, start
