"""Few videos drawn by seed, and true labels weighed against pseudo labels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import labels, refused, videos  # noqa: F401  (fixtures)
from typer.testing import CliRunner

from zsvg.cli.app import app
from zsvg.errors import RecordError, ZsvgError
from zsvg.records import Annotation
from zsvg.training.labels import choose_labels, shots, weigh_true


def label(vid, number=0, **extra):
    return Annotation(qid=f"{vid}-{number}", query="a dog", vid=vid, duration=9.0,
                      relevant_windows=((1, 2),), extra=extra)  # fmt: skip


MANY = [label(f"v{i % 7}", i) for i in range(30)]


@given(seed=st.integers(0, 50), count=st.integers(1, 6))
def test_draws_are_whole_videos_in_order_and_nested(seed, count):
    fewer, more = (shots(MANY, n, seed) for n in (count, count + 1))
    kept = {a.vid for a in fewer}
    assert len(kept) == count
    assert fewer == [a for a in MANY if a.vid in kept]
    assert kept < {a.vid for a in more}
    assert shots(MANY[::-1], count, seed) == fewer[::-1]


def test_the_seed_draws_other_videos_and_all_videos_are_all_labels():
    assert len({frozenset(a.vid for a in shots(MANY, 2, seed)) for seed in range(20)}) > 3
    assert shots(MANY, 7, 0) == MANY
    for count in (0, -1, 8):
        with pytest.raises(ZsvgError, match=rf"--shots {count}: .* 7 videos"):
            shots(MANY, count, 0)


def test_true_labels_weigh_more_and_weights_multiply():
    pseudo = label("a", source={"captioner": "x"}, weight=0.5)
    true, weighed = label("a"), label("b", weight=2.0)
    mixed = weigh_true([pseudo, true, weighed], 4.0)
    assert mixed[0] == pseudo
    assert [a.extra["weight"] for a in mixed] == [0.5, 4.0, 8.0]
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ZsvgError, match="--also-weight"):
            weigh_true([true], weight)
    with pytest.raises(RecordError, match="weight 'much'"):
        weigh_true([label("a", weight="much")], 2.0)


def test_shots_are_of_the_annotations_that_are_added_where_there_are_any():
    pseudo = [label(f"p{i}", source={}) for i in range(5)]
    taken, lines = choose_labels(pseudo, also=MANY, also_weight=3, shot_count=2, seed=1)
    true = shots(MANY, 2, 1)
    assert taken[:5] == pseudo
    assert [a.qid for a in taken[5:]] == [a.qid for a in true]
    assert lines == [
        f"{len(true)} of 30 annotations taken: those of 2 of 7 videos, drawn by seed 1",
        f"{len(true)} true and 5 pseudo labels, a true one weighing 3 times a pseudo one",
    ]
    assert choose_labels(MANY, shot_count=3) == (
        shots(MANY, 3, 0),
        [f"{len(shots(MANY, 3, 0))} of 30 labels taken: those of 3 of 7 videos, drawn by seed 0"],
    )
    assert choose_labels(MANY) == (MANY, [])


def test_the_command_says_what_it_takes(tiny_clip_folder, videos, labels, tmp_path):  # noqa: F811
    pseudo = [json.loads(line) | {"source": {}} for line in labels.read_text().splitlines()]
    (tmp_path / "pseudo.jsonl").write_text("".join(json.dumps(a) + "\n" for a in pseudo))
    shown = CliRunner().invoke(
        app,
        ["tune", str(tmp_path / "pseudo.jsonl"), "--videos", str(videos), "--also", str(labels),
         "--also-weight", "5", "--shots", "1", "--recipe", "head-only", "--dry-run",
         "--backbone", f"local-dir:{tiny_clip_folder}"],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "1 of 2 annotations taken" in shown.output
    assert "1 true and 2 pseudo labels, a true one weighing 5 times" in shown.output


def test_the_command_refuses_in_one_line(refused, videos, labels):  # noqa: F811
    tune = ("tune", labels, "--videos", videos, "--backbone", "micro")
    assert "2 videos" in refused(*tune, "--shots", "3")
    assert "--also-weight 0" in refused(*tune, "--also", labels, "--also-weight", "0")
    assert "--also" in refused(*tune, "--also-weight", "2")
