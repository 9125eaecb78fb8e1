"""Sentences that relate moments in time, read by hand, and those of TEMPO and Charades-STA."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsvg.datasets import convert
from zsvg.grounding.parts import Parts, parts_of


@pytest.mark.parametrize(
    ("sentence", "kind", "main", "other"),
    [
        ("a dog barks before a cat runs", "before", "a dog barks", "a cat runs"),
        ("A dog barks BEFORE a cat runs.", "before", "A dog barks", "a cat runs."),
        ("a dog barks, before a cat runs", "before", "a dog barks", "a cat runs"),
        ("a dog barks shortly after a cat runs", "after", "a dog barks", "a cat runs"),
        ("the dog waits before crossing", "before", "the dog waits", "crossing"),
        ("Before a cat runs, a dog barks.", "before", "a dog barks.", "a cat runs"),
        ("After the man sits , he reads", "after", "he reads", "the man sits"),
        ("the red circle after a blue ring", "after", "the red circle", "a blue ring"),
        ("a man sits, then he reads", "then", "a man sits", "he reads"),
        ("a man sits,then he reads", "then", "a man sits", "he reads"),
        ("a man sits and then reads a book", "then", "a man sits", "reads a book"),
        ("a man sits. Then he reads.", "then", "a man sits.", "he reads."),
        ("a man sings while a dog barks", "while", "a man sings", "a dog barks"),
        ("While a dog barks, a man sings", "while", "a man sings", "a dog barks"),
        ("a dog runs but not a cat", "not", "a dog runs", "a cat"),
        # Of several the loosest one, and of one kind the first, parts the sentence.
        ("he sits, then reads before she sings", "before", "he sits, then reads", "she sings"),
        ("he sits, then reads while she sings", "then", "he sits", "reads while she sings"),
        ("he sits before she sings after it rains", "before", "he sits",
         "she sings after it rains"),
        ("he sits, then he reads, then he eats", "then", "he sits", "he reads, then he eats"),
        ("the cat jumps after the first time it falls", "after", "the cat jumps",
         "the first time it falls"),
        ("he claps for the first time before she sings", "before", "he claps for the first time",
         "she sings"),
        # What is no clause behind a verb of caring or standing is no time.
        ("he looks after the baby before she sings", "before", "he looks after the baby",
         "she sings"),
        ("a man looks after putting it down", "after", "a man looks", "putting it down"),
        ("a man stands before the dog barks", "before", "a man stands", "the dog barks"),
    ],
)  # fmt: skip
def test_a_sentence_is_read_into_two_parts(sentence, kind, main, other):
    read = parts_of(sentence)
    assert read == Parts(kind=kind, main=main, other=other)
    assert read.texts == (main, other)


@pytest.mark.parametrize(
    ("sentence", "main", "ordinal"),
    [
        ("the second time the man falls", "the man falls", 2),
        ("The third time that the man falls.", "the man falls.", 3),
        ("the man falls for the second time.", "the man falls", 2),
        ("the man falls the 2nd time", "the man falls", 2),
        ("a cat is seen for first time", "a cat is seen", 1),
    ],
)
def test_a_time_is_counted(sentence, main, ordinal):
    read = parts_of(sentence)
    assert read == Parts(kind="nth", main=main, ordinal=ordinal)
    assert read.texts == (main,)


@pytest.mark.parametrize(
    "sentence",
    [
        "a person opens the door",
        "a woman stands before the mirror",
        "she is kneeling before an old altar",
        "a woman looks after the baby",
        "a dog runs after it",
        "the police chase after a man",
        "then a man sits",
        "Then, a man sits.",
        "a man sits and then",
        "since then a man sits",
        "now and then a man waves",
        "he turns left then right",
        "she looks at him then back to the stage",
        "a man reads for a while",
        "find the red circle while it spins",
        "While he reads, a man sings",
        "a girl waves while standing in a field",
        "after a while a man reads",
        "the morning after the party",
        "like never before",
        "one after another",
        "person after awakening",
        "before and after pictures",
        "a before-and-after picture of a room",
        "last but not least",
        "the second time",
        "after he sits he reads",
        "  a dog\tbarks , twice ",
        "un chien aboie avant que le chat coure",
        "before",
        "",
    ],
)
def test_what_is_no_relation_stays_whole_byte_for_byte(sentence):
    assert parts_of(sentence) == Parts(kind="whole", main=sentence)


@given(st.lists(st.sampled_from(
    ["before", "after", "then", "while", "but not", "the second time", "a dog", "runs", ",", ".",
     " ", "looks", "it", "\n"])))  # fmt: skip
def test_any_words_in_any_order_are_read(words):
    sentence = " ".join(words)
    read = parts_of(sentence)
    if read.kind == "whole":
        assert read.main == sentence
    else:
        assert all(text.strip() and text in sentence for text in read.texts)
        assert (read.ordinal > 0) == (read.kind == "nth") == (not read.other)


def test_tempo_is_read_as_it_was_made(data_folder: Path):
    file = data_folder / "annotations" / "tempo" / "tempotl_didemo_test.csv"
    right = 0
    records = convert("tempo", file).records
    for record in records:
        first, second = (record.extra[f"event{place}_description"] for place in (1, 2))
        kind = record.extra["conjugate"]
        main, other = (first, second) if kind == "before" else (second, first)
        right += parts_of(record.query) == Parts(kind=kind, main=main, other=other)
    assert len(records) == 987
    assert right >= 0.95 * 987


def test_charades_is_left_alone_but_for_two_sentences(data_folder: Path):
    folder = data_folder / "annotations" / "charades_sta"
    lines = (folder / "charades_sta_test.txt").read_text(encoding="utf-8").splitlines()
    sentences = [line.partition("##")[2] for line in lines]
    assert len(sentences) == 3720
    assert [sentence for sentence in sentences if parts_of(sentence).kind != "whole"] == [
        "looking in mirror,then person starts undressing.",
        "open a mobile,then suddenly another person comes running.",
    ]
    assert all(parts_of(s).main == s for s in sentences if parts_of(s).kind == "whole")
