"""Which words of a sentence are nouns and verbs: what "simplified" queries and filters ask for.

A tagger is any function from a sentence to (word, tag) pairs, in the order of the sentence, whose
tags begin with N for nouns and with V for verbs. That is true of the Penn tags and of the Universal
ones, so those of NLTK and spaCy fit in one line, with a name that tells one model from another:

    Tagger(lambda text: nltk.pos_tag(nltk.word_tokenize(text)), "nltk perceptron")
    Tagger(lambda text: [(word.text, word.pos_) for word in nlp(text)], "spacy en_core_web_sm 3.8")
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsvg.errors import ZsvgError
from zsvg.files import sha256_json
from zsvg.strict_json import quoted

# The tag of the Universal set for words that are nothing else.
OTHER = "X"
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
_MICRO_NOUNS = (
    "board bottom camera drawing left middle moment nothing right scene top video"  # no shapes
)
_SMALL_WORDS = "in still the to"  # of actions: "comes in", "stays still", "moves to the left"


@dataclass(frozen=True)
class Tagger:
    """A function that tags words, and what tells it from others.

    Attributes:
        tag: From a sentence to its (word, tag) pairs; see the top of the module.
        fingerprint: Any text that changes with the tags; labels made with another one are not
            taken for finished.
    """

    tag: Callable[[str], Sequence[tuple[str, str]]]
    fingerprint: str


def lexicon(words: Mapping[str, str]) -> Tagger:
    """Return a tagger that looks words up, whatever is around them.

    Args:
        words: Word -> tag. Case does not matter; other words are tagged "X".

    Raises:
        ZsvgError: There is no word, one of them is not a single word or has no tag, or two differ
            in case only and have different tags.
    """
    if not words:
        raise ZsvgError("a lexicon without words tags nothing; give {word: tag}")
    tags: dict[str, str] = {}
    for word, tag in sorted(words.items()):
        if not _WORD.fullmatch(word):
            raise ZsvgError(
                f"{quoted(word)} in a lexicon is not a single word; tag each for itself"
            )
        if not isinstance(tag, str) or not tag.strip():
            raise ZsvgError(
                f"{quoted(word)} in a lexicon has the tag {quoted(tag)}; give N, V or other"
            )
        if tags.setdefault(word.casefold(), tag) != tag:
            raise ZsvgError(f"{quoted(word)} is twice in a lexicon, with two tags; keep one")

    def look_up(sentence: str) -> list[tuple[str, str]]:
        return [(word, tags.get(word.casefold(), OTHER)) for word in _WORD.findall(sentence)]

    return Tagger(look_up, f"lexicon {sha256_json(tags)}")


def load_tagger(name: str | Path) -> Tagger:
    """Return a tagger by name.

    Args:
        name: "micro" (the words of microworld), or a JSON file {word: tag}.

    Raises:
        ZsvgError: There is no such file, or it does not hold a lexicon.
    """
    if str(name) == "micro":
        return lexicon(_micro_words())
    path = Path(name).expanduser()
    try:
        words: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ZsvgError(
            f"tagger {str(name)!r} is neither micro nor a JSON file that can be read"
        ) from None
    except ValueError as error:
        raise ZsvgError(f"{path}: not JSON ({error}); write {{word: tag}}") from error
    if not isinstance(words, dict):
        raise ZsvgError(f"{path}: a tagger's file is one JSON object {{word: tag}}")
    try:
        return lexicon(words)
    except ZsvgError as error:
        raise ZsvgError(f"{path}: {error}") from error


def _micro_words() -> dict[str, str]:
    """Return every word of microworld with a tag.

    Sides are nouns, as in "to the left". What is said to the viewer ("we see", "show me") is no
    verb of the scene; it is tagged as other, like small words.
    """
    from zsvg.microworld import language

    def words(groups: Mapping[str, Any]) -> set[str]:
        return set(re.findall(r"[a-z]+", json.dumps(list(groups.values()))))

    nouns = words(language.SHAPE_WORDS) | set(_MICRO_NOUNS.split())
    verbs = words(language.ACTION_WORDS) - nouns - set(_SMALL_WORDS.split())
    looks = words(language.COLOUR_WORDS) | words(language.SIZE_WORDS)
    return {
        **dict.fromkeys(language.vocabulary(), OTHER),
        **dict.fromkeys(looks, "ADJ"),
        **dict.fromkeys(verbs, "V"),
        **dict.fromkeys(nouns, "N"),
    }
