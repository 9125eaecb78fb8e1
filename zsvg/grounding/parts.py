"""Sentences that relate two moments in time, read into parts: a regular grammar of English.

    parts_of("the dog barks before the cat runs away")
    Parts(kind="before", main="the dog barks", other="the cat runs away")

Where nothing here is sure the sentence stays whole. The conjunctions of TEMPO (Hendricks et al.,
"Localizing Moments in Video with Temporal Language", EMNLP 2018) are "before", "after", "then" and
"while"; those that bind loosest are looked for first, and of several of one kind the first one
parts the sentence. No part is read any further.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["before", "after", "then", "while", "not", "nth", "whole"]
"""How the parts belong together."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a sentence says of one moment, and of what that moment relates to.

    Attributes:
        kind: `main` is "before", "after" or "while" `other`, is its "nth" time, or lasts where
            `other` is "not"; of "then" both are meant, `main` first. "whole": it is one moment.
        main: The words of the moment that is looked for, as they are written; of "whole" the
            sentence, byte for byte.
        other: The words of the other one; "" of "nth" and "whole".
        ordinal: Which time it is, from 1; 0 unless "nth".
    """

    kind: Kind
    main: str
    other: str = ""
    ordinal: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """The words of each part, `main` first."""
        return (self.main, self.other) if self.other else (self.main,)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5,
    "1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5,
}  # fmt: skip
_NTH = rf"(?P<nth>{'|'.join(_ORDINALS)})\s+time"
_FIRST_NTH = re.compile(
    rf"\s*(?:for\s+)?(?:(?:the|a)\s+)?{_NTH}(?:\s*,|\s+that|\s+when)?\s+(?P<main>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_LAST_NTH = re.compile(
    rf"(?P<main>.*?\S)\s+(?:for(?:\s+(?:the|a))?|the|a)\s+{_NTH}[\s.!]*",
    re.IGNORECASE | re.DOTALL,
)
_FRONTED = re.compile(
    r"\s*(?P<kind>before|after|while)\s+(?P<other>[^,]*[^,\s])\s*,\s*(?P<main>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_INNER: tuple[tuple[Kind | None, re.Pattern[str]], ...] = (
    (None, re.compile(r"(?<=[\s,;])(before|after)(?=\s)", re.IGNORECASE)),
    ("then", re.compile(r"(?:(?<=[\s,;.])and\s+)?(?<=[\s,;.])then(?=[\s,])", re.IGNORECASE)),
    ("while", re.compile(r"(?<=[\s,;])while(?=\s)", re.IGNORECASE)),
    ("not", re.compile(r"(?<=[\s,;])but\s+not(?=\s)", re.IGNORECASE)),
)

_SOON = re.compile(r"[\s,]+(just|immediately|shortly|soon|directly)$", re.IGNORECASE)
_WORD = re.compile(r"[\w'’-]+")

_ARTICLES = _set("a an the one")
# What these stand for is not in the part, which says nothing without it: "runs after it".
_STANDS_FOR = (
    _set("it him her them me us you this that these those then one another each other all")
    | _ARTICLES
)
# "while it spins" and "while standing" go on about the same moment, and name nobody.
_PRONOUNS = _set("it he she they we you i")
# "then right" goes on with the sentence, and is no moment of its own.
_WHERE = _set(
    "left right back up down away out in off on around over to into from at forward forwards "
    "backward backwards towards again"
)
# Words in front of a conjunction that make it something else: "since then", "for a while".
_DATES = _set("day days night week month year morning evening minute step")
_NOT_BEHIND: dict[Kind, frozenset[str]] = {
    "before": _DATES | _set("ever never as than"),
    "after": _DATES,
    "then": _set("since by until till now even only"),
    "while": _set("a the that little long short good quite worth"),
    "not": frozenset({"last"}),
}
# "looks after the baby" tells no time, nor does "stands before the mirror".
_CARES = _set(
    "look looks looking looked take takes taking took run runs running ran chase chases chasing "
    "chased go goes going went come comes coming came"
)
_STANDS = _set(
    "stand stands standing stood sit sits sitting sat kneel kneels kneeling knelt bow bows bowing "
    "bowed lie lies lying lay pose poses posing posed"
)
_HAPPENS = re.compile(r"\w+[^s]s|\w+ed|\w+ing|is|are|was|were|can|falls?|go|gets?")


def parts_of(sentence: str) -> Parts:
    """Read a sentence.

    Args:
        sentence: In English; others have none of these words, and stay whole.

    Returns:
        Its parts. Loosest are "before" and "after", then "then", "while", "but not", and the
        number of a time.
    """
    if fronted := _FRONTED.fullmatch(sentence):
        kind: Kind = fronted["kind"].lower()  # type: ignore[assignment]
        main, other = _bare(fronted["main"]), _bare(fronted["other"])
        if _says(main) and _says(other) and _is_another(kind, _words(other)):
            return Parts(kind=kind, main=main, other=other)
    for fixed, pattern in _INNER:
        for found in pattern.finditer(sentence):
            kind = fixed or found[0].lower()  # type: ignore[assignment]
            main, other = _bare(sentence[: found.start()]), _bare(sentence[found.end() :])
            if _says(main) and _says(other) and _joins(kind, _words(main), _words(other)):
                return Parts(kind=kind, main=_SOON.sub("", main), other=other)
    nth = _FIRST_NTH.fullmatch(sentence) or _LAST_NTH.fullmatch(sentence)
    if nth and _says(nth["main"]):
        return Parts(kind="nth", main=_bare(nth["main"]), ordinal=_ORDINALS[nth["nth"].lower()])
    return Parts(kind="whole", main=sentence)


def _bare(text: str) -> str:
    return text.strip(" \t\r\n,;")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _says(text: str) -> bool:
    """Return whether a part names anything."""
    return not _STANDS_FOR.issuperset(_words(text))


def _joins(kind: Kind, main: list[str], other: list[str]) -> bool:
    """Return whether the conjunction between these words is one of moments."""
    last, first = main[-1], other[0]
    if last in _NOT_BEHIND[kind] or {last, first} & {"and", "or"}:
        return False
    if not _is_another(kind, other):
        return False
    if kind in ("before", "after", "while") and len(set(main) - _ARTICLES) < 2:
        return False  # "person after awakening"
    if kind == "after" and last in _CARES:
        return first.endswith("ing")
    if kind == "before" and last in _STANDS:
        return _happens(other)
    return True


def _is_another(kind: Kind, other: list[str]) -> bool:
    """Return whether these words tell of a moment of their own."""
    if kind == "then":
        return other[0] not in _WHERE
    return kind != "while" or not (other[0] in _PRONOUNS or other[0].endswith("ing"))


def _happens(words: list[str]) -> bool:
    """Return whether something like a verb follows the first noun: a clause, and no thing."""
    if words[0].endswith("ing"):
        return True
    behind = words[2:] if words[0] in _ARTICLES else words[1:]
    return any(_HAPPENS.fullmatch(word) for word in behind)
