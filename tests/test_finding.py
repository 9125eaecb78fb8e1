"""Which videos lie where, and what each is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pytest
from films import film

from zsvg.cli.options import split_sentences
from zsvg.errors import VideoError, ZsvgError
from zsvg.files import file_stem
from zsvg.video.finding import find_videos


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zsvg", *map(str, arguments)]
    environment = {**os.environ, "ZSVG_CACHE": str(cwd / "cache")}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_folders_are_searched_to_the_ground(tmp_path):
    touch(tmp_path, "b.mp4", "a.MKV", ".hidden.mp4", "notes.txt", "cam1/a.mp4", "cam1/x/a.mp4",
          ".git/c.mp4")  # fmt: skip
    found = find_videos(tmp_path)
    assert list(found) == ["a", "b", "cam1/a", "cam1/x/a"]
    assert found["cam1/x/a"] == tmp_path / "cam1" / "x" / "a.mp4"
    assert found.unusable == ()
    assert find_videos(tmp_path / "cam1" / "a.mp4") == {"a": tmp_path / "cam1" / "a.mp4"}


def test_files_of_one_stem_keep_their_suffixes(tmp_path):
    touch(tmp_path, "a.mp4", "a.avi", "b.mp4", "x/a.mp4")
    assert list(find_videos(tmp_path)) == ["a.avi", "a.mp4", "b", "x/a"]
    touch(tmp_path, "a.mp4.mkv")  # whose stem is a name that is now taken
    assert list(find_videos(tmp_path)) == ["a.avi", "a.mp4", "a.mp4.mkv", "b", "x/a"]


def test_several_places_and_patterns(tmp_path):
    touch(tmp_path, "one/a.mp4", "one/b.mp4", "two/c.mkv", "three.webm")
    assert list(find_videos(tmp_path / "one", tmp_path / "two")) == ["a", "b", "c"]
    assert list(find_videos(f"{tmp_path}/*/*.m*")) == ["a", "b", "c"]
    assert list(find_videos(tmp_path / "one" / "a.mp4", tmp_path / "three.webm")) == ["a", "three"]
    assert len(find_videos(tmp_path / "one", tmp_path / "one" / "a.mp4")) == 2  # the same file
    with pytest.raises(VideoError, match=r"\*\.avi: no file fits this pattern"):
        find_videos(f"{tmp_path}/*.avi")
    with pytest.raises(VideoError, match="no such file or folder"):
        find_videos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no video in this folder"):
        find_videos(tmp_path / "empty")


def test_files_of_one_name_in_several_places_are_told_apart_by_the_way_to_them(tmp_path):
    touch(tmp_path, "one/a.mp4", "two/a.mp4", "two/b.mp4", "two/a.avi")
    found = find_videos(tmp_path / "one", tmp_path / "two")
    assert list(found) == ["b", "one/a", "two/a.avi", "two/a.mp4"]
    assert found["one/a"] == tmp_path / "one" / "a.mp4"
    assert found.unusable == ()
    assert list(find_videos(f"{tmp_path}/*/a.mp4")) == ["one/a", "two/a"]


def test_what_cannot_be_used_is_named_and_costs_itself_alone(tmp_path):
    touch(tmp_path, "good.mp4", b"caf\xe9.mp4", "folder.mp4/inside.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "annex" / "object")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "good.mp4")
    (tmp_path / "folder.mp4" / "circle").symlink_to(tmp_path)
    (tmp_path / "itself.mp4").symlink_to(tmp_path / "itself.mp4")
    found = find_videos(tmp_path)
    assert list(found) == ["folder.mp4/inside", "good", "link"]
    told = sorted(found.unusable)
    assert len(told) == 3
    assert "caf\\xe9.mp4: the name is not UTF-8" in told[0]
    assert "gone.mp4: a link to nothing" in told[1]
    assert "itself.mp4: a link to nothing" in told[2]
    for line in told:
        line.encode("utf-8")
    only = tmp_path / "only"
    touch(only, b"\xff.mp4")
    with pytest.raises(VideoError, match="not UTF-8"):
        find_videos(only)


def test_a_folder_that_cannot_be_read_is_named():
    program = (
        "import os, sys\n"
        "from zsvg.video.finding import find_videos\n"
        "if os.getuid() == 0: os.setuid(65534)  # root reads everything\n"
        "found = find_videos(sys.argv[1])\n"
        "print(list(found), found.unusable)"
    )
    with tempfile.TemporaryDirectory() as folder:  # not below a folder of root's own
        Path(folder).chmod(0o755)
        touch(Path(folder), "good.mp4", "shut/a.mp4")
        shut = Path(folder) / "shut"
        shut.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=300
        )
        shut.chmod(0o755)
    assert "['good']" in done.stdout, done.stderr
    assert "shut: cannot be read (Permission denied)" in done.stdout


def test_a_name_is_found_in_any_form_of_unicode(tmp_path):
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        touch(folder, unicodedata.normalize(form, "K\u00fcche/\u00e9t\u00e9") + ".mp4")
        found = find_videos(folder)
        assert list(found) == ["K\u00fcche/\u00e9t\u00e9"]
        for other in ("NFC", "NFD"):
            assert unicodedata.normalize(other, "K\u00fcche/\u00e9t\u00e9") in found
    touch(tmp_path / "both", *(unicodedata.normalize(f, "\u00e9") + ".mp4" for f in ("NFC", "NFD")))
    found = find_videos(tmp_path / "both")
    assert list(found) == ["\u00e9.mp4"]
    assert len(found.unusable) == 1


def test_parts_of_file_names():
    assert file_stem("cam1/a b") == "cam1-a b"
    assert file_stem("a\n\x1b[31mb") == "a__[31mb"
    long = file_stem("\u00e9" * 300)
    assert len(long.encode()) <= 100
    assert long != file_stem("\u00e9" * 301)


def test_what_is_a_video_and_what_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.mp4", "b.mp4", "sub/c.mp4")
    assert split_sentences(["a dog"]) == ([], ["a dog"])
    assert split_sentences(["b.mp4", "sub", "a dog", "what?"]) == (
        ["b.mp4", "sub"], ["a dog", "what?"],
    )  # fmt: skip
    assert split_sentences(["*.mp4", "a dog"]) == (["*.mp4"], ["a dog"])
    with pytest.raises(ZsvgError, match=r"b\.mp4: comes after a sentence"):
        split_sentences(["a dog", "b.mp4"])
    with pytest.raises(ZsvgError, match=r"c\.mp4: no such file"):
        split_sentences(["c.mp4", "a dog"])
    with pytest.raises(ZsvgError, match=r"b\.mp4 is taken for a video; a sentence has to follow"):
        split_sentences(["b.mp4"])


def test_commands_over_odd_names(tmp_path):
    videos = tmp_path / "videos"
    (videos / "cam").mkdir(parents=True)
    tiny = film(videos / "cam" / "one.mp4", range(2)).read_bytes()
    long = "x" * 240
    for name in (f"{long}.mp4".encode(), b"caf\xe9.mp4", b"two\x1b[31m\nlines.mp4"):
        with open(os.path.join(os.fsencode(videos), name), "wb") as file:
            file.write(tiny)
    done = run("ground", "videos/*", "a red circle", "--model", "micro", "--top-k", 4,
               "--all", "--cut", "clips", "-o", "answers.jsonl", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1  # one name is no text
    assert "caf\\xe9.mp4: the name is not UTF-8" in done.stderr
    assert "\x1b[31m" not in done.stdout + done.stderr
    answered = [json.loads(line) for line in (tmp_path / "answers.jsonl").open()]
    assert sorted(answer["vid"] for answer in answered) == sorted(
        ["one", long, "two\x1b[31m\nlines"]
    )
    clips = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert len(clips) == 4
    assert all(name.isprintable() for name in clips)
    srt = run("ground", videos, "a red circle", "--model", "micro", "-o", "s.srt", cwd=tmp_path)
    assert srt.returncode == 1
    names = sorted(path.name for path in tmp_path.glob("s.*.srt"))
    assert len(names) == 3
    assert "s.cam-one.srt" in names
    labels = run("pseudo-label", "videos", "--backbone", "micro", "--captioner", "micro",
                 "-o", "labels.jsonl", cwd=tmp_path)  # fmt: skip
    assert labels.returncode == 1
    assert "caf\\xe9.mp4" in labels.stderr
    assert (tmp_path / "labels.jsonl").is_file()
    listed = run("features", videos, "--backbone", "micro", "--format", "json", cwd=tmp_path)
    assert len(json.loads(listed.stdout)) == 3
