"""True sentences without times: which event of its video each one is placed on."""

import numpy as np
import pytest
from test_alignment import unit, video

from zsvg.records import Annotation
from zsvg.training.placing import placed
from zsvg.training.supervision import aligned_by_events

COUNT, GROUPS = 36, 3


@pytest.fixture
def world():
    """Videos of 20 s: one half shows what its own sentence tells alone, one what twelve tell.

    Sentences tell more of the common thing than of their own.
    """
    things = np.eye(COUNT + GROUPS)
    texts, videos, labels = {}, {}, []
    for number in range(COUNT):
        thing, common = things[number], things[COUNT + number % GROUPS]
        own, other = np.tile(thing, (20, 1)), np.tile(common, (20, 1))
        halves = (own, other) if number % 2 else (other, own)
        vid, query = f"v{number}", f"thing {number}"
        videos[vid] = video(vid, np.concatenate(halves))
        texts[query] = unit((thing + 2 * common)[None])[0]
        labels.append(Annotation(qid=number, query=query, vid=vid, duration=20.0))
    return labels, videos, texts


def test_a_sentence_belongs_to_the_event_that_others_fit_less(world):
    labels, videos, texts = world
    windows = placed(labels, videos, texts)
    assert [end <= 10 if a.qid % 2 else start >= 10
            for a, (start, end) in zip(labels, windows, strict=True)] == [True] * COUNT  # fmt: skip
    # Similarity alone takes what a third of the sentences tell for their moment.
    curve = videos["v1"].features @ texts["thing 1"]
    assert curve[30] > curve[10]


def test_windows_are_not_looked_at(world):
    labels, videos, texts = world
    timed = [Annotation(**{**vars(a), "relevant_windows": ((3.0, 4.0),)}) for a in labels]
    assert placed(timed, videos, texts) == placed(labels, videos, texts)


def test_a_sentence_alone_is_placed_too(world):
    labels, videos, texts = world
    ((start, end),) = placed(labels[1:2], videos, texts)
    assert 0 <= start < end <= 20


def test_looks_of_those_events_are_learned(world):
    labels, videos, texts = world
    alignment = aligned_by_events(labels, videos, texts)
    mean = np.mean([alignment.look(text) for text in texts.values()], axis=0)
    told = np.stack([alignment.look(texts[a.query]) - mean for a in labels])
    assert (np.argmax(told[:, :COUNT], axis=1) == np.arange(COUNT)).all()
