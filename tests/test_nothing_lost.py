"""One bad item costs itself alone, and nothing that is there is lost: what a person sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import coloured_frames, encode_video

from zsvg.records import Annotation, read_annotations, read_predictions, write_annotations

GOOD = 46  # of the batch of 50


def record(qid: int | str, vid: str, query: str = "a red ball", **more) -> Annotation:
    windows = more.pop("windows", ((0.0, 1.0),))
    return Annotation(qid=qid, query=query, vid=vid, duration=2.0, relevant_windows=windows, **more)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A whole video under many names, and three files that are none: cut off, text, empty."""
    folder = tmp_path_factory.mktemp("batch") / "videos"
    folder.mkdir()
    whole = encode_video(folder / "v00.mp4", coloured_frames(20)).read_bytes()
    for number in range(1, GOOD):
        (folder / f"v{number:02}.mp4").write_bytes(whole)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("to be filmed")
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Four different videos, `a` to `d`."""
    folder = tmp_path_factory.mktemp("few") / "videos"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        encode_video(folder / f"{name}.mp4", coloured_frames(20 + number))
    return folder


@pytest.fixture
def say(run_zsvg, tiny_clip_folder, tmp_path):
    """Run a command with the tiny CLIP; return exit status, stdout and the lines of stderr."""

    def run(command, *arguments):
        option = "--backbone" if command in ("tune", "features", "compare") else "--model"
        named = [option, f"local-dir:{tiny_clip_folder}", "--cache", tmp_path / "cache"]
        status, out, err = run_zsvg(command, *arguments, *named, "--device", "cpu")
        assert "Traceback" not in err
        return status, out, err.splitlines()

    return run


def errors(lines: list[str]) -> list[str]:
    return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


def test_fifty_queries_of_which_five_are_bad(say, videos, tmp_path):
    asked = [record(number, f"v{number % GOOD:02}") for number in range(50)]
    bad = {7: "cut", 18: "text", 29: "empty", 40: "gone"}
    for number, vid in bad.items():
        asked[number] = record(number, vid)
    asked[49] = record(49, "v03", " \t")
    write_annotations(tmp_path / "asked.jsonl", asked)
    out = tmp_path / "answers.jsonl"
    status, _, lines = say("predict", tmp_path / "asked.jsonl", "--videos", videos, "-o", out)
    assert status == 1
    answered = [p.qid for p in read_predictions(out)]
    assert answered == [n for n in range(50) if n not in bad and n != 49]
    assert f"wrote 45 predictions to {out}" in lines
    named = [str(videos / "cut.mp4"), str(videos / "text.mp4"), str(videos / "empty.mp4"),
             "qid 40", "qid 49 of video 'v03'"]  # fmt: skip
    found = errors(lines)
    assert len(found) == len(named)
    for name in named:
        assert sum(name in line for line in found) == 1, (name, found)


@pytest.fixture
def only_bad(videos, tmp_path) -> Path:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("text.mp4", "empty.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    return folder


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("command", ["predict", "ground", "probe", "inspect", "pseudo-label"])
def test_an_output_is_left_as_it_was_where_everything_fails(
    say, run_zsvg, only_bad, tmp_path, command, there
):
    write_annotations(tmp_path / "asked.jsonl", [record(1, "text"), record(2, "empty")])
    out = tmp_path / ("out.html" if command == "inspect" else "out.jsonl")
    if there:
        out.write_text("the work of yesterday")
    of = [tmp_path / "asked.jsonl", "--videos", only_bad, "-o", out]
    if command == "inspect":
        status, _, err = run_zsvg(command, *of)
        lines = err.splitlines()
    elif command == "pseudo-label":
        micro = ("--backbone", "micro", "--captioner", "micro")
        status, _, err = run_zsvg(command, only_bad, "-o", out, *micro, "--device", "cpu")
        lines = err.splitlines()
    elif command == "ground":
        status, _, lines = say(command, only_bad, "a red ball", "-o", out)
    else:
        status, _, lines = say(command, *of)
    assert status == 1
    assert len(errors(lines)) == 2
    said = "left as it was" if there else "not written"
    assert [line for line in lines if said in line] == [f"everything failed: {out} is {said}"]
    assert out.exists() == there
    if there:
        assert out.read_text() == "the work of yesterday"


def test_a_blank_sentence_among_several(say, few, tmp_path):
    out = tmp_path / "out.jsonl"
    status, _, lines = say("ground", few, "a red ball", "  ", "a blue ball", "-o", out)
    assert status == 1
    assert errors(lines) == ["sentence 2 is blank; describe the moment in a few words"]
    found = read_predictions(out)
    assert [p.query for p in found] == ["a red ball"] * 4 + ["a blue ball"] * 4
    assert {p.qid for p in found} == {f"{vid}-{number}" for vid in "abcd" for number in (0, 2)}
    out.write_text("kept")
    status, _, lines = say("ground", few, "", "-o", out)
    assert (status, len(lines), out.read_text()) == (1, 1, "kept")


def test_a_clip_that_cannot_be_cut_costs_itself(say, few, tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "out.jsonl"
    clips.mkdir()
    (clips / "01-1-a.mp4").mkdir()  # nothing can be written here
    (clips / "01-1-a.mp4" / "mine").touch()
    status, shown, lines = say("ground", few / "a.mp4", "a red ball", "--top-k", "2",
                               "--cut", clips, "-o", out)  # fmt: skip
    assert "a red ball" in shown
    assert len(read_predictions(out)) == 1
    moments = len(read_predictions(out)[0].pred_relevant_windows)
    (line,) = errors(lines)
    assert line.startswith(f"{clips / '01-1-a.mp4'}: ")
    assert status == 1
    assert len([n for n in lines if n.startswith("cut ")]) == moments - 1
    # Where no clip can be written at all, the answers are there all the same.
    out.unlink()
    (tmp_path / "file").touch()
    status, shown, lines = say("ground", few / "a.mp4", "a red ball",
                               "--cut", tmp_path / "file" / "clips", "-o", out)  # fmt: skip
    assert status == 1
    assert "a red ball" in shown
    assert out.exists()
    assert all(str(tmp_path / "file") in line for line in errors(lines))


def test_bad_options_are_one_line_and_no_fault_of_the_videos(say, few, tmp_path):
    for option in (("--fps", "0"), ("--framing", "round")):
        status, _, lines = say("features", few, *option)
        assert (status, len(lines)) == (1, 1)


QUICK = """
training: {steps: 2, batch_size: 4, validate_every: 1, warmup: 1}
head: {hidden: 16, layers: 1, attention_heads: 2}
held_out: 0.25
"""


def test_labels_that_cannot_be_learned_from_are_left_out(say, few, tmp_path):
    (tmp_path / "quick.yaml").write_text(QUICK)
    labels = [record(f"{vid}{n}", vid) for vid in "abcd" for n in range(2)]
    write_annotations(tmp_path / "good.jsonl", labels)
    bad = [record("blank", "a", " "), record("late", "b", windows=((5.0, 9.0),)),
           record("none", "b", windows=()), record("gone", "elsewhere")]  # fmt: skip
    write_annotations(tmp_path / "some.jsonl", [bad[0], *labels, *bad[1:]])
    for name, more in (("good", ()), ("some", ()), ("some", ("--dry-run",))):
        status, _, lines = say(
            "tune", tmp_path / f"{name}.jsonl", "--videos", few, "--recipe",
            tmp_path / "quick.yaml", "-o", tmp_path / name, *more,
        )  # fmt: skip
        assert status == (1 if name == "some" else 0), lines
        assert len(errors(lines)) == (4 if name == "some" else 0)
    for name in ("qid 'blank'", "qid 'late'", "qid 'none'", "elsewhere"):
        assert sum(name in line for line in errors(lines)) == 1
    weights = [(tmp_path / name / "head.safetensors").read_bytes() for name in ("good", "some")]
    assert weights[0] == weights[1]
    write_annotations(tmp_path / "bad.jsonl", bad)
    before = {p: p.read_bytes() for p in (tmp_path / "some").iterdir()}
    status, _, lines = say("tune", tmp_path / "bad.jsonl", "--videos", few, "--recipe",
                           tmp_path / "quick.yaml", "-o", tmp_path / "some")  # fmt: skip
    assert status == 1
    assert len(errors(lines)) == 5
    assert "left as it was" in lines[-1]
    assert {p: p.read_bytes() for p in (tmp_path / "some").iterdir()} == before


def test_a_comparison_and_a_probe_go_on(say, few, videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in few.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "text.mp4").write_bytes((videos / "text.mp4").read_bytes())
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    write_annotations(train, [record(1, "a"), record(2, "b"), record("blank", "a", "")])
    write_annotations(test, [record(3, "c"), record("blank too", "c", " "), record(4, "text"),
                             record(5, "gone"), record("none", "d", windows=())])  # fmt: skip
    of = ("--videos", folder)
    status, _, lines = say("compare", train, test, *of, "--supervision", "training-free",
                           "-o", tmp_path / "grid")  # fmt: skip
    named = ["qid 'blank'", "qid 'blank too'", str(folder / "text.mp4"), "gone", "qid 'none'"]
    assert status == 1
    assert [sum(name in line for line in errors(lines)) for name in named] == [1] * 5
    assert (tmp_path / "grid" / "table.md").exists()
    status, out, lines = say("probe", test, *of, "--seconds", "1", "--format", "json")
    assert status == 1
    assert [row["metrics"]["queries"] for row in json.loads(out)] == [1, 1]
    assert [sum(name in line for line in errors(lines)) for name in named] == [0, 1, 1, 1, 1]
    # Where not one run gives a result, the table of yesterday stays.
    (tmp_path / "grid" / "table.md").write_text("yesterday")
    write_annotations(test, [record(4, "text")])
    status, _, lines = say("compare", train, test, *of, "--supervision", "training-free",
                           "-o", tmp_path / "grid")  # fmt: skip
    assert status == 1
    assert (tmp_path / "grid" / "table.md").read_text() == "yesterday"
    assert any("left as it was" in line for line in lines)


def test_a_file_that_may_not_be_read_is_one_bad_item(as_nobody, few, tiny_clip_folder, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in few.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "b.mp4").chmod(0)
    import sys

    done = as_nobody(
        [sys.executable, "-m", "zsvg", "features", folder, "--device", "cpu", "--backbone",
         f"local-dir:{tiny_clip_folder}", "--cache", tmp_path / "cache"],
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = errors(done.stderr.splitlines())
    assert str(folder / "b.mp4") in line
    assert "features of 3 of 4 videos" in done.stderr


class TestFinishedVideos:
    """`OUTPUT.parts` stays, so that a later run looks at what is new alone."""

    @pytest.fixture
    def label(self, run_zsvg, tmp_path, caplog):
        out, folder = tmp_path / "out.jsonl", tmp_path / "videos"
        folder.mkdir()

        def run(*more):
            status, shown, err = run_zsvg(
                "pseudo-label", folder, "--backbone", "micro", "--captioner", "micro", "--device",
                "cpu", "--cache", tmp_path / "cache", "--min-score", "-1", *(more or ("-o", out)),
            )  # fmt: skip
            return status, shown, err.splitlines()

        run.out, run.folder, run.parts = out, folder, tmp_path / "out.jsonl.parts"
        return run

    @staticmethod
    def made(label) -> dict[str, int]:
        """Return when each finished video's file was written: those of a run are new ones."""
        return {p.name: p.stat().st_mtime_ns for p in label.parts.glob("?" * 64 + ".json")}

    def test_one_more_video_is_labelled_alone(self, label, few, videos):
        for name in ("a", "b"):
            (label.folder / f"{name}.mp4").write_bytes((few / f"{name}.mp4").read_bytes())
        (label.folder / "text.mp4").write_bytes((videos / "text.mp4").read_bytes())
        status, _, lines = label()
        assert status == 1
        assert (
            f"{label.parts} lets the next run label what is new alone; it can be deleted" in lines
        )
        assert {a.vid for a in read_annotations(label.out)} == {"a", "b"}
        first = self.made(label)
        assert len(first) == 2
        (label.folder / "text.mp4").unlink()
        (label.folder / "c.mp4").write_bytes((few / "c.mp4").read_bytes())
        # What the first run wrote says so itself: it is taken as it is.
        for name in first:
            part = json.loads((label.parts / name).read_text())
            for said in part["labels"]:
                said["query"] = "said before"
            (label.parts / name).write_text(json.dumps(part))
        changed = self.made(label)
        status, _, lines = label()
        assert status == 0
        assert not any("labelled again" in line for line in lines)
        assert {n: t for n, t in self.made(label).items() if n in first} == changed
        assert len(self.made(label)) == 3
        said = {a.vid: a.query for a in read_annotations(label.out)}
        assert (said["a"], said["b"]) == ("said before", "said before")
        assert said["c"] != "said before"

    def test_other_settings_and_older_versions_are_said(self, label, few):
        (label.folder / "a.mp4").write_bytes((few / "a.mp4").read_bytes())
        label.parts.mkdir()
        for name in ("0" * 64, "1" * 64):  # as version 0.1.0 named them
            (label.parts / f"{name}.json").write_text('{"duration": 1, "events": [], "labels": []}')
        (label.parts / "notes.txt").write_text("mine")
        line = (
            f"warning: 2 finished videos in {label.parts} are of other settings or an older version"
            " and are labelled again"
        )
        assert label()[2].count(line) == 1
        assert line not in label()[2]
        assert len(self.made(label)) == 3
        _, _, lines = label("-o", label.out, "--seed", "1")
        assert line.replace("2 finished", "3 finished") in lines
        assert (label.parts / "notes.txt").read_text() == "mine"

    def test_a_stream_has_its_parts_in_this_folder(self, label, few, tmp_path, monkeypatch):
        (label.folder / "a.mp4").write_bytes((few / "a.mp4").read_bytes())
        monkeypatch.chdir(tmp_path)
        _, shown, _ = label("-o", "/dev/stdout")
        assert json.loads(shown.splitlines()[0])["vid"] == "a"
        assert (tmp_path / "pseudo.jsonl.parts").is_dir()
        assert not Path("/dev/stdout.parts").exists()

    def test_a_full_disk_there_is_an_error_that_names_it(self, few, as_nobody, tmp_path):
        import sys

        (tmp_path / "out.jsonl.parts").mkdir(mode=0o555)
        done = as_nobody(
            [sys.executable, "-m", "zsvg", "pseudo-label", few / "a.mp4", "--backbone", "micro",
             "--captioner", "micro", "-o", tmp_path / "out.jsonl", "--device", "cpu"],
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert done.returncode == 1
        (line,) = errors(done.stderr.splitlines())
        assert str(tmp_path / "out.jsonl.parts") in line
        assert ".tmp" not in line


def test_where_nothing_can_be_written_is_said_before_the_work(say, few, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "answers.jsonl"
    write_annotations(tmp_path / "asked.jsonl", [record(0, "a")])
    for command in (
        ("ground", few, "a red ball"),
        ("predict", tmp_path / "asked.jsonl", "--videos", few),
    ):
        status, shown, lines = say(*command, "-o", out)
        assert (status, shown) == (1, "")
        assert errors(lines) == [
            f"{out}: {tmp_path / 'file'} cannot be written; choose another folder"
        ]
    assert not (tmp_path / "cache").exists()  # no video was looked at
    status, _, lines = say("ground", few, "a red ball", "--cut", tmp_path / "file")
    assert (status, "is a file" in errors(lines)[0]) == (1, True)


def test_an_output_that_fails_at_the_end_hides_nothing(say, few, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "answers.jsonl"))

    (few / "text.mp4").write_text("to be filmed")
    monkeypatch.setattr("zsvg.cli.results.write_moments", full)
    status, shown, lines = say("ground", few, "a red ball", "-o", tmp_path / "answers.jsonl")
    (few / "text.mp4").unlink()
    assert status == 1
    assert "a red ball" in shown
    unreadable, unwritten = errors(lines)
    assert "text.mp4" in unreadable
    assert "No space left" in unwritten
    assert str(tmp_path / "answers.jsonl") in unwritten


def test_devices_are_outputs_of_any_command(say, few, tmp_path):
    write_annotations(tmp_path / "asked.jsonl", [record(0, "a")])
    assert say("ground", few, "a red ball", "-o", "/dev/null")[0] == 0
    assert say("predict", tmp_path / "asked.jsonl", "--videos", few, "-o", "/dev/null")[0] == 0


def test_a_sentence_that_is_no_text_costs_itself(say, few):
    status, shown, lines = say("ground", few, "a red ball", "\udcff", "--format", "jsonl")
    assert status == 1
    assert {json.loads(line)["query"] for line in shown.splitlines()} == {"a red ball"}
    assert errors(lines) == ["sentence 2 is not UTF-8; write it in this encoding"]
