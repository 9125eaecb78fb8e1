"""What is said in a library: found by word and by meaning, kept up to date, and one list with what
is seen.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import film, grey
from PIL import Image
from talks import noise, silence, write_talk, write_tiny_whisper, write_video

import zsvg.library.hearing
import zsvg.library.vectors
from zsvg import Library, ZsvgError
from zsvg.errors import VideoError
from zsvg.grounding.answers import Grounding, Moment
from zsvg.library.example import in_step, read_clip
from zsvg.library.hits import Hit, first, fused, records
from zsvg.library.said import Heard, Said
from zsvg.library.search import Answer
from zsvg.library.tables import Video
from zsvg.library.upkeep import check, compact, prune
from zsvg.microworld.world import write_world
from zsvg.transcripts.lines import Line, Lines

SRT = "1\n00:00:01,000 --> 00:00:03,000\n{}\n\n2\n00:00:04,000 --> 00:00:06,500\n{}\n"
VTT = "WEBVTT\n\n00:02.000 --> 00:05.250\n{}\n"
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Dialogue: 0,0:00:03.00,0:00:04.50,Default,,0,0,0,,{{\\i1}}{}{{\\i0}}\n"
)


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A folder of films with subtitles of each kind, and one without."""
    folder = tmp_path / "my films"
    inside = folder / "inside"
    inside.mkdir(parents=True)
    for number, name in enumerate(("one", "two", "three", "four")):
        film(inside / f"{name}.mp4", range(number, number + 8))
    (inside / "one.srt").write_text(SRT.format("Have you fed the tortoise?", "冷蔵庫を開けました"))
    (inside / "two.en.vtt").write_text(VTT.format("The tortoises are asleep."))
    (inside / "three.ass").write_text(ASS.format("Zürich is far"))
    return folder


@pytest.fixture
def library(tiny_clip_folder: Path, tmp_path: Path) -> Library:
    return Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos whose subtitles were read."""
    names: list[str] = []
    real = zsvg.library.hearing.said_in

    def counted(video, *more):
        names.append(Path(video).name)
        return real(video, *more)

    monkeypatch.setattr(zsvg.library.hearing, "said_in", counted)
    return names


def said(library: Library, query: str) -> list[tuple[str, float, float, str]]:
    """Return where a word is said: lines that hold it, whatever random weights think they mean."""
    hits = library.hits(query, by="said", top=50, per_video=50)
    assert {hit.by for hit in hits} <= {"said"}
    key = query.casefold().rstrip("s")
    return [
        (Path(hit.video.vid).stem, hit.start, hit.end, hit.words)
        for hit in hits
        if key in hit.words.casefold().replace("ü", "u")
    ]


def test_words_are_found_in_files_of_all_kinds(spoken: Path, library: Library):
    library.add(spoken)
    assert sorted(said(library, "tortoise")) == [
        ("one", 1.0, 3.0, "Have you fed the tortoise?"),
        ("two", 2.0, 5.25, "The tortoises are asleep."),
    ]
    assert said(library, "zurich") == [("three", 3.0, 4.5, "Zürich is far")]
    assert library.hits("zurich", by="said", folder="nowhere") == []
    (hit, *others) = library.hits("zurich", by="said", folder=spoken / "inside", top=1)
    assert (hit.words, others) == ("Zürich is far", [])
    assert said(library, "冷蔵庫") == [("one", 4.0, 6.5, "冷蔵庫を開けました")]
    (first_hit, *_) = library.hits("冷蔵庫", by="said")
    assert first_hit.words == "冷蔵庫を開けました"


def test_words_are_found_in_streams(tmp_path: Path, library: Library):
    folder = tmp_path / "streams"
    folder.mkdir()
    write_video(folder / "a.mkv", ("srt", "eng", [(1.5, 1.0, b"a pelican")]))
    write_video(folder / "b.mp4", ("mov_text", "eng", [(2.0, 1.5, b"\x00\x0ctwo pelicans")]))
    library.add(folder)
    found = {name: (start, end) for name, start, end, _ in said(library, "pelican")}
    assert found["a"] == pytest.approx((1.5, 2.5), abs=0.1)
    assert found["b"] == pytest.approx((2.0, 3.5), abs=0.1)


def test_nothing_is_read_twice(spoken: Path, library: Library, read: list[str]):
    report = library.add(spoken)
    assert sorted(read) == ["four.mp4", "one.mp4", "three.mp4", "two.mp4"]
    counts = {Path(vid).stem: heard.count for vid, heard in report.heard.items()}
    assert counts == {"one": 2, "two": 1, "three": 1, "four": 0}
    read.clear()
    library.add(spoken)
    assert read == []
    # A file that is new, changed or gone is noticed, and nothing else is read again.
    (spoken / "inside" / "four.de.srt").write_text(SRT.format("Wo ist Zürich?", "Da."))
    (spoken / "inside" / "two.en.vtt").write_text(VTT.format("The pelicans are asleep."))
    (spoken / "inside" / "three.ass").unlink()
    library.add(spoken)
    assert sorted(read) == ["four.mp4", "three.mp4", "two.mp4"]
    assert [name for name, *_ in said(library, "zurich")] == ["four"]
    assert [name for name, *_ in said(library, "tortoise")] == ["one"]
    assert check(library.folder) == []


def test_lines_move_with_their_video(spoken: Path, library: Library, read: list[str]):
    library.add(spoken)
    read.clear()
    (spoken / "elsewhere").mkdir()
    for name in ("one.mp4", "one.srt"):
        shutil.move(spoken / "inside" / name, spoken / "elsewhere" / name)
    library.add(spoken)
    assert read == []
    assert [name for name, *_ in said(library, "tortoise")].count("one") == 1
    (hit,) = [h for h in library.hits("tortoise", by="said") if "fed" in h.words]
    assert Path(hit.video.path).parts[0] == "elsewhere"


def test_what_is_forgotten_is_not_found(spoken: Path, library: Library):
    library.add(spoken)
    (spoken / "inside" / "one.mp4").unlink()
    library.add(spoken)
    assert [name for name, *_ in said(library, "tortoise")] == ["two"]  # marked
    prune(library.folder)
    kept = Said.there(library.tables.folder, library.space.width)
    assert len(kept.heard()) == 3
    assert sum(len(kept.lines(source)) for source in kept.sources()) == 2
    compact(library.folder, alone=True)
    assert check(library.folder) == []
    assert [name for name, *_ in said(Library.open(library.folder), "tortoise")] == ["two"]


def test_an_interrupted_reading_is_done_again(spoken: Path, library: Library, monkeypatch):
    real = Said.put

    def killed(self, *arguments):
        monkeypatch.setattr(self._tables["heard"], "merge_insert", None)
        real(self, *arguments)  # lines are written, but nothing says whose they are

    with monkeypatch.context() as patch:
        patch.setattr(Said, "put", killed)
        with pytest.raises(TypeError):
            library.add(spoken)
    (problem,) = check(library.folder)
    assert problem == "lines of 3 sources that no video has"
    again = Library.open(library.folder)
    again.add()  # the folder is known by then
    assert check(library.folder) == []
    assert [line[:3] for line in sorted(said(again, "tortoise"))] == [
        ("one", 1.0, 3.0), ("two", 2.0, 5.25)
    ]  # fmt: skip


def test_missing_lines_are_told(spoken: Path, library: Library):
    library.add(spoken)
    Said(library.tables.folder, library.space.width)._tables["lines"].delete("start > 3")
    assert check(library.folder) == ["lines of 1 videos are missing"]
    library.add(spoken)  # repairs it
    assert check(library.folder) == []
    assert len(said(library, "冷蔵庫")) == 1


def test_another_model_encodes_lines_anew_and_reads_nothing(
    spoken: Path, library: Library, read: list[str]
):
    library.add(spoken)
    read.clear()
    other = Library.open(library.folder, "micro", reembed=True)
    other.add(spoken)
    assert read == []
    assert [name for name, *_ in said(Library.open(library.folder), "zurich")] == ["three"]


def test_a_broken_file_is_one_line(spoken: Path, library: Library, run_zsvg):
    (spoken / "inside" / "four.srt").write_bytes(b"\x00\x01\x02broken")
    report = library.add(spoken)
    assert not report.failures  # the video can be searched
    for _ in range(2):  # it is still broken the next time
        status, _, error = run_zsvg("index", spoken, "-o", library.folder)
        assert status == 1
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        assert "four.srt" in lines[0]
    (spoken / "inside" / "four.srt").unlink()
    status, _, error = run_zsvg("index", spoken, "-o", library.folder)
    assert status == 0, error
    assert "3 with words" in error


def test_a_recogniser_listens_where_nobody_wrote(tmp_path: Path, library: Library, run_zsvg):
    folder, model = tmp_path / "talks", write_tiny_whisper(tmp_path / "whisper")
    folder.mkdir()
    sound = np.concatenate([silence(1), noise(3), silence(1)])
    write_talk(folder / "talk.mp4", sound)
    write_talk(folder / "mute.mp4", None)
    write_talk(folder / "titled.mp4", sound)
    (folder / "titled.srt").write_text(SRT.format("written", "down"))
    status, _, error = run_zsvg("index", folder, "-o", library.folder, "--speech", model)
    assert status == 0, error
    tables = Said(library.tables.folder, library.space.width)
    heard = {Path(one.key).name: one for one in tables.heard()}
    assert heard["mute.mp4"].count == 0
    lines = tables.lines(heard["talk.mp4"].source)
    assert lines  # what a random model says means nothing; when it says it is in the sound
    assert all(0 <= line.start < line.end <= 5.1 for line in lines)
    assert [line.text for line in tables.lines(heard["titled.mp4"].source)] == ["written", "down"]
    # Without a recogniser, what it heard stays.
    status, _, error = run_zsvg("index", "-o", library.folder)
    assert status == 0, error
    assert tables.lines({Path(h.key).name: h for h in tables.heard()}["talk.mp4"].source) == lines
    (hit, *_) = library.hits(lines[0].text, by="said")
    assert (Path(hit.video.vid).stem, hit.words) == ("talk", lines[0].text)

    # Moved without one, too, and a copy has it as well.
    (folder / "new").mkdir()
    shutil.move(folder / "talk.mp4", folder / "new" / "talk.mp4")
    shutil.copy(folder / "new" / "talk.mp4", folder / "copy.mp4")
    status, _, error = run_zsvg("index", "-o", library.folder)
    assert status == 0, error
    heard = {Path(one.key).name: one for one in tables.heard()}
    for name in ("talk.mp4", "copy.mp4"):
        assert tables.lines(heard[name].source) == lines


def test_a_run_without_a_recogniser_does_not_count_as_listening(
    tmp_path: Path, library: Library, run_zsvg
):
    folder, model = tmp_path / "talks", write_tiny_whisper(tmp_path / "whisper")
    folder.mkdir()
    sound = np.concatenate([silence(1), noise(3), silence(1)])
    write_talk(folder / "talk.mp4", sound)
    (folder / "talk.srt").write_text(SRT.format("written", "down"))
    index = ("index", folder, "-o", library.folder)
    assert run_zsvg(*index, "--speech", model)[0] == 0
    (folder / "talk.srt").unlink()
    assert run_zsvg(*index)[0] == 0
    tables = Said(library.tables.folder, library.space.width)
    assert [(one.count, one.recogniser) for one in tables.heard()] == [(0, "")]
    assert run_zsvg(*index, "--speech", model)[0] == 0
    (heard,) = tables.heard()
    assert heard.count > 0
    assert heard.recogniser
    status, _, error = run_zsvg(
        "index", folder, "-o", tmp_path / "new", "-m", "micro", "--speech", "no-such"
    )
    assert status == 1
    assert "unknown recogniser 'no-such'" in error
    assert not (tmp_path / "new").exists()


def test_what_could_not_be_read_is_tried_again(spoken: Path, library: Library, monkeypatch):
    real = zsvg.library.hearing.said_in
    with monkeypatch.context() as patch:
        patch.setattr(
            zsvg.library.hearing,
            "said_in",
            lambda video, *more: Lines(unusable=[f"{video}: the disk is busy"]),
        )
        assert all(heard.failures for heard in library.add(spoken).heard.values())
    assert real is zsvg.library.hearing.said_in
    assert not any(heard.failures for heard in library.add(spoken).heard.values())
    assert len(said(library, "tortoise")) == 2


def test_two_languages_are_one_hit_and_a_copy_is_its_own(spoken: Path, library: Library):
    inside = spoken / "inside"
    (inside / "four.en.vtt").write_text(VTT.format("a pelican"))
    (inside / "four.de.vtt").write_text(VTT.format("der pelican"))
    library.add(spoken)
    ((_, start, end, words),) = said(library, "pelican")
    assert (start, end, words) in ((2.0, 5.25, "a pelican / der pelican"),
                                   (2.0, 5.25, "der pelican / a pelican"))  # fmt: skip
    shutil.copy(inside / "three.mp4", inside / "again.mp4")
    (inside / "again.srt").write_text(SRT.format("a toucan", "two"))
    library.add(spoken)
    (toucan,) = [hit for hit in library.hits("toucan", by="said") if "toucan" in hit.words]
    assert toucan.video.file.name == "again.mp4"
    assert [Path(name).name for name in toucan.alike] == ["three.mp4"]


def test_a_talkative_video_does_not_hide_others(spoken: Path, library: Library):
    cues = [f"00:{n // 6:02}.{n % 6}00 --> 00:{n // 6:02}.{n % 6}90\ntoucan\n" for n in range(42)]
    (spoken / "inside" / "four.vtt").write_text("WEBVTT\n\n" + "\n".join(cues))
    (spoken / "inside" / "one.srt").write_text(SRT.format("one rare toucan was seen here", "x"))
    library.add(spoken)
    found = library.hits("toucan", by="said", top=4, per_video=3)
    names = [hit.video.file.stem for hit in found if "toucan" in hit.words]
    assert names.count("four") == 3
    assert "one" in names


def test_words_that_say_nothing_find_nothing(tmp_path: Path):
    tables = Said(tmp_path, 2)
    lines = [Line(0, 1, "the weather is nice"), Line(1, 2, "she opens the fridge slowly"),
             Line(2, 3, "the fridge is full")]  # fmt: skip
    put(tables, "a", lines, np.eye(2, dtype=np.float32)[[0, 0, 0]])
    away = np.array([0, 1], np.float32)
    found, more = tables.find("a person opens the fridge", away, 0.5, 10)
    assert {line.text for _, line in found} == {lines[1].text, lines[2].text}
    assert not more
    assert tables.find("opens the fridge", away, 0.5, 10, all_words=True)[0] == [("a", lines[1])]
    assert len(tables.find("the", away, 0.5, 10)[0]) == 3  # there is nothing else to look for
    assert tables.find("fridge", away, 0.5, 1)[1]  # there are more


def test_features_that_are_gone_take_no_search_along(spoken: Path, library: Library):
    library.add(spoken)
    library.tables._tables["features"].delete("duration > 0")
    assert library.hits("tortoise", by="said") == []


def test_a_library_of_before_asks_to_be_indexed(spoken: Path, library: Library, run_zsvg):
    library.add(spoken)
    for name in ("heard", "lines"):
        shutil.rmtree(library.tables.folder / f"{name}.lance")
    status, out, error = run_zsvg("search", library.folder, "a person", "--format", "jsonl")
    assert status == 0, error
    assert out
    status, _, error = run_zsvg("search", library.folder, "a person", "--by", "said")
    assert status == 1
    assert "`zsvg index -o" in error
    assert not (library.tables.folder / "lines.lance").exists()  # readers make nothing
    assert check(library.folder) == []
    Library.open(library.folder).add()
    assert len(said(library, "tortoise")) == 2


def put(tables: Said, source: str, lines: list[Line], rows: np.ndarray) -> None:
    tables.put([Heard(key=source, source=source, count=len(lines))], {source: lines}, rows)


class TestMeaning:
    def test_by_word_and_by_meaning(self, tmp_path: Path):
        tables, rows = Said(tmp_path, 4), np.eye(4, dtype=np.float32)
        lines = [Line(0, 1, "the cat sleeps"), Line(1, 2, "a dog barks"), Line(2, 3, "rain")]
        put(tables, "a", lines, rows[:3])
        leaning = np.array([0.0, 0.8, 0.6, 0.0], np.float32)

        def found(sentence: str, least: float, among=None) -> list[str]:
            return [line.text for _, line in tables.find(sentence, leaning, least, 9, among)[0]]

        # By word the first, by meaning the second; the third is not near enough.
        assert set(found("cat", 0.7)) == {"the cat sleeps", "a dog barks"}
        assert found("dog", 0.7) == ["a dog barks"]
        assert found("dogs", 0.5) == ["a dog barks", "rain"]
        assert found("cat", 0.99, among={"b"}) == []

    def test_meaning_is_of_the_text_tower(self, tmp_path: Path):
        """`micro` knows two words for what goes away."""
        library = Library.open(tmp_path / "library", "micro")
        folder = tmp_path / "world"
        write_world(folder, domain="studio", videos=2, seed=2, annotations=False)
        one, two = sorted((folder / "videos").glob("*.mp4"))
        one.with_suffix(".srt").write_text(SRT.format("the red ball exits", "two green stars"))
        two.with_suffix(".srt").write_text(SRT.format("a blue square rests", "nothing"))
        library.add(folder / "videos")
        (best, *_) = library.hits("a red circle leaves", by="said")
        assert best.words == "the red ball exits"
        assert (best.video.file, best.start, best.end) == (one, 1.0, 3.0)

    def test_many_lines_are_searched_by_an_index(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(zsvg.library.vectors, "INDEXED_FROM", 2000)
        rows = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        tables = Said(tmp_path, 16)
        lines = [Line(n, n + 1, f"line {n}") for n in range(len(rows))]
        put(tables, "a", lines, rows)
        by_hand = np.flatnonzero(rows @ rows[7] >= 0.6)
        tables.optimise()
        assert zsvg.library.vectors.Vectors(tables._tables["lines"]).indexed
        for place in (7, 1234, 2999):
            found, _ = tables.find("nothing", rows[place], 0.9, 50)
            assert found[0][1].text == f"line {place}"
        found, _ = tables.find("nothing", rows[7], 0.6, 200)
        assert len(found) >= 0.9 * len(by_hand)
        assert {line.text for _, line in found} <= {f"line {n}" for n in by_hand}

    def test_names_with_quotes(self, tmp_path: Path):
        tables = Said(tmp_path, 2)
        put(tables, "it's", [Line(0, 1, "x")], np.eye(2, dtype=np.float32)[:1])
        assert [line.text for line in tables.lines("it's")] == ["x"]
        tables.sweep([])
        assert tables.heard() == []
        assert tables.sources() == set()


def video(name: str) -> Video:
    return Video(
        vid=name, root="/", path=name, content=name, state="", size=1, modified=0.0, duration=60.0
    )


def hit(name: str, start: float, end: float, words: str = "", score: float = 0.5) -> Hit:
    moment = Moment(start=start, end=end, score=score)
    curve = np.zeros(1, np.float32)
    said = Grounding(
        query="q", vid=name, moments=(moment,), curve=curve, centres=np.zeros(1), fit=0.1
    )
    answer = Answer(video=video(name), grounding=said)
    by = "said" if words else "seen"
    return Hit(answer=answer, start=start, end=end, score=score * (not words), by=by, words=words)


class TestOneList:
    def test_ranks_decide_and_lines_join_their_moments(self):
        by_eye = [hit("a", 0, 10), hit("b", 0, 10), hit("c", 0, 10)]
        by_ear = [hit("d", 5, 6, "far"), hit("b", 9, 11, "near"), hit("b", 2, 3, "also")]
        # 1/61 for a and d, 1/62 + 1/62 for b, 1/63 for c.
        found = fused(by_eye, by_ear)
        assert [(h.video.vid, h.by, h.words) for h in found] == [
            ("b", "both", "near … also"),
            ("a", "seen", ""),
            ("d", "said", "far"),
            ("c", "seen", ""),
        ]
        assert (found[0].start, found[0].end, found[0].score) == (0, 10, 0.5)

    def test_a_line_outside_a_moment_is_another(self):
        found = fused([hit("a", 0, 10)], [hit("a", 9, 12, "after")])
        assert [(h.start, h.by) for h in found] == [(0, "seen"), (9, "said")]

    def test_first_ones(self):
        hits = [hit("a", n, n + 1) for n in range(3)] + [hit("b", 0, 1)]
        assert [(h.video.vid, h.start) for h in first(hits, 3, 2)] == [("a", 0), ("a", 1), ("b", 0)]
        assert len(first(hits, 1, 2)) == 1

    def test_records(self):
        made = records([hit("b", 1, 2), hit("a", 3, 4, "word"), hit("b", 5, 6, score=0.2)])
        assert [record.vid for record in made] == ["b", "a"]
        assert made[0].pred_relevant_windows == ((1, 2, 0.5), (5, 6, 0.2))
        assert "said" not in made[0].extra
        assert made[1].extra["said"] == ["word"]
        assert made[1].extra["by"] == ["said"]

    def test_words_stand_in_the_table_and_the_page(self, spoken, library, run_zsvg, tmp_path):
        library.add(spoken)
        page = tmp_path / "page.html"
        status, out, error = run_zsvg(
            "search", library.folder, "tortoise", "--by", "said", "-o", page
        )
        assert status == 0, error
        assert "Have you fed the tortoise?" in " ".join(out.split())
        assert "<q>Have you fed the tortoise?</q>" in page.read_text(encoding="utf-8")
        status, out, _ = run_zsvg("search", library.folder, "tortoise", "--format", "jsonl")
        assert status == 0
        words = [w for line in out.splitlines() for w in json.loads(line).get("said", ())]
        assert "Have you fed the tortoise?" in " ".join(words)

    def test_what_is_seen_does_not_depend_on_words(self, spoken: Path, library: Library):
        library.add(spoken)
        by_eye = library.hits("a person", by="seen")
        for file in (spoken / "inside").glob("*.??*"):
            if file.suffix != ".mp4":
                file.unlink()
        library.add(spoken)
        assert not library.hits("tortoise", by="said")
        seen = [replace(h, answer=None) for h in by_eye]
        assert [replace(h, answer=None) for h in library.hits("a person")] == seen


class TestExamples:
    @pytest.fixture
    def library(self, tiny_clip_folder: Path, tmp_path: Path) -> Library:
        """Two films that share seconds 4 to 7, and one of other seconds."""
        folder = tmp_path / "films"
        folder.mkdir()
        for name, seconds in {"a": range(8), "b": range(4, 12), "c": range(14, 22)}.items():
            film(folder / f"{name}.mp4", seconds)
        made = Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")
        made.add(folder)
        return made

    def test_a_clip_is_found_where_it_is_shown(self, library: Library, tmp_path: Path, run_zsvg):
        shown = tmp_path / "films" / "a.mp4"
        status, out, error = run_zsvg(
            "search", library.folder, "--clip", f"{shown}@4-8", "--all", "--format", "jsonl"
        )
        assert status == 0, error
        found = {Path(r["vid"]).stem: r for r in map(json.loads, out.splitlines())}
        assert found["a"]["query"] == "a@4-8"
        assert found["a"]["pred_relevant_windows"][0][:2] == [4.0, 8.0]
        assert found["b"]["pred_relevant_windows"][0][:2] == [0.0, 4.0]
        assert next(iter(found)) == "a"
        assert found["a"]["fit"] == pytest.approx(1, abs=1e-5)

    def test_more_like_this_is_the_same_without_decoding(self, library: Library, tmp_path: Path):
        (own,) = [v for v in library.videos() if v.vid.startswith("a")]
        stored = library.like(own.content, 4, 8)
        read = read_clip(f"{tmp_path / 'films' / 'a.mp4'}@4-8", library.grounder)
        assert stored.rows.tobytes() == read.rows.tobytes()
        assert len(stored.rows) == 8  # two clips a second
        hits = library.hits(stored, group=False)
        assert (Path(hits[0].video.vid).stem, hits[0].start, hits[0].end) == ("a", 4.0, 8.0)
        with pytest.raises(VideoError, match="8-9 is no part of the video"):
            library.like(own.content, 8, 9)
        with pytest.raises(ZsvgError, match="no video with content 000"):
            library.like("0" * 64, 0, 1)

    def test_a_picture_is_found_where_it_is_shown(self, library: Library, tmp_path: Path, run_zsvg):
        Image.fromarray(grey(17)).save(tmp_path / "a picture.png")
        status, out, error = run_zsvg(
            "search", library.folder, "--image", tmp_path / "a picture.png", "--format", "jsonl",
            "--all",
        )  # fmt: skip
        assert status == 0, error
        found = {Path(r["vid"]).stem: r for r in map(json.loads, out.splitlines())}
        start, end, _ = found["c"]["pred_relevant_windows"][0]
        assert 2.5 <= start < end <= 4.5  # shown from 3 to 4

    def test_what_is_no_example(self, library: Library, tmp_path: Path, run_zsvg):
        (tmp_path / "text.jpg").write_text("no picture")
        wrong = [
            ("--clip", "none.mp4@1-2"),
            ("--clip", f"{tmp_path / 'films' / 'a.mp4'}@5-4"),
            ("--image", str(tmp_path / "text.jpg")),
        ]
        status, _, error = run_zsvg("search", library.folder, *(w for pair in wrong for w in pair))
        assert status == 1
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert len(lines) == 3
        for (_, name), line in zip(wrong, lines, strict=True):
            assert name.partition("@")[0] in line
        status, _, error = run_zsvg("search", library.folder)
        assert status == 1
        assert "give a sentence, --clip or --image" in error

    def test_a_bad_example_does_not_take_the_sentences(self, library: Library, run_zsvg):
        status, out, error = run_zsvg(
            "search", library.folder, "a person", "--clip", "none.mp4@1-2", "--format", "jsonl"
        )
        assert status == 1
        assert "none.mp4" in error
        assert out.count('"a person"') >= 3

    def test_steps(self):
        clips = np.eye(5, dtype=np.float32)
        assert in_step(clips, clips[1:3]) == (1.0, 1, 3)
        assert in_step(clips[1:3], clips) == (1.0, 0, 2)  # the whole of the shorter video
        assert in_step(clips, clips[[1, 3]])[0] == 0.5  # the right clips, not one after the other
