"""What is said in a video: real files of subtitles, and real streams inside videos."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import av
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from films import film
from talks import ASS, write_video

from zsvg.errors import TranscriptError
from zsvg.transcripts import Line, read_streams, read_subtitles, said_in, sidecars
from zsvg.transcripts.lines import Cue, tidy
from zsvg.transcripts.subtitles import language_beside, language_tag

SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}<i>Open</i> the <font color="#ff0000">fridge</font> &amp; wait

2
00:00:03,040 --> 00:00:04,000
♪ in the kitchen ♪
- if a < b and c > d, AT&T
"""
VTT = """WEBVTT - a title
Kind: captions
Language: en-GB

STYLE
::cue { color: red }

NOTE a note with a time
00:00:09.000 --> 00:00:10.000 is no line

a name
00:01.000 --> 00:02.500 align:start position:0%
<v Roger Bingham>Open the <c.yellow>fridge</c> &lt;now&gt;

01:00:03.000 --> 01:00:04.000
hello<01:00:03.480><c> everyone</c>
"""

SSA = """[Script Info]
ScriptType: v4.00

[Events]
Format: Marked, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: Marked=0,0:00:01.00,0:00:02.50,Default,,0000,0000,0000,,Open the fridge
"""
# As YouTube writes automatic captions: two rows that roll up, and each row by itself for 10 ms.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.470 align:start position:0%
 
hello<00:00:00.480><c> everyone</c>

00:00:02.470 --> 00:00:02.480 align:start position:0%
hello everyone
 

00:00:02.480 --> 00:00:04.550 align:start position:0%
hello everyone
to<00:00:03.000><c> the kitchen</c>

00:00:04.550 --> 00:00:04.560 align:start position:0%
to the kitchen
 
"""


def said(lines: list[Line]) -> list[tuple[float, float, str]]:
    return [(line.start, line.end, line.text) for line in lines]


def srt(*texts: str) -> str:
    """Return a file with one text a second, from 1 s on, of a second each."""
    return "\n\n".join(
        f"{n}\n00:00:{n:02},000 --> 00:00:{n + 1:02},000\n{text}" for n, text in enumerate(texts, 1)
    )


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def set_forward(path: Path, out: Path, by) -> Path:
    """Copy a video whose clock is `by` seconds ahead, which may depend on its time."""
    with av.open(str(path)) as source, av.open(str(out), "w") as sink:
        streams = [sink.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                ahead = round(by(float(packet.pts * packet.time_base)) / packet.time_base)
                packet.pts += ahead
                packet.dts = packet.pts if packet.dts is None else packet.dts + ahead
                packet.stream = streams[packet.stream_index]
                sink.mux(packet)
    return out


def timed_text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


class TestFiles:
    def test_srt(self, tmp_path):
        assert said(read_subtitles(write(tmp_path / "a.srt", SRT))) == [
            (1.0, 2.5, "Open the fridge & wait"),
            (3.04, 4.0, "♪ in the kitchen ♪ - if a < b and c > d, AT&T"),
        ]

    def test_vtt(self, tmp_path):
        lines = read_subtitles(write(tmp_path / "a.vtt", VTT))
        assert said(lines) == [
            (1.0, 2.5, "Open the fridge <now>"),
            (3603.0, 3604.0, "hello everyone"),
        ]
        assert {(line.language, line.source) for line in lines} == {("en-GB", "a.vtt")}

    def test_ass_and_ssa(self, tmp_path):
        assert said(read_subtitles(write(tmp_path / "a.ass", ASS))) == [
            (1.0, 2.5, "Open, the fridge"),
            (3.04, 4.0, "over, there now go"),
        ]
        lines = read_subtitles(write(tmp_path / "a.ssa", SSA))
        assert said(lines) == [(1.0, 2.5, "Open the fridge")]

    def test_what_is_in_a_file_tells_its_kind(self, tmp_path):
        assert said(read_subtitles(write(tmp_path / "a.srt", "\ufeff" + VTT)))[0][2].startswith("O")
        assert len(read_subtitles(write(tmp_path / "b.vtt", ASS))) == 2

    def test_captions_that_roll_up_say_each_row_once(self, tmp_path):
        assert said(read_subtitles(write(tmp_path / "a.vtt", ROLLING))) == [
            (0.16, 2.48, "hello everyone"),
            (2.48, 4.56, "to the kitchen"),
        ]

    def test_times_that_are_none(self, tmp_path):
        text = """
5
00:00:20,000 --> 00:00:21,000
last, but first in the file

1
-00:00:03,000 --> -00:00:01,000
before the film

2
-00:00:01,000 --> 00:00:01,000
into the film

3
00:00:05,000 --> 00:00:05,000
no length

4
00:00:06,500 --> 00:00:05,900
backwards
00:00:08,000 --> 00:00:12,000
long
00:00:09,000 --> 00:00:10,000
meanwhile
"""
        lines = read_subtitles(write(tmp_path / "a.srt", text))
        assert said(lines) == [
            (0.0, 1.0, "into the film"),
            (5.0, 6.5, "no length"),  # until the next
            (6.5, 8.0, "backwards"),
            (8.0, 12.0, "long"),
            (9.0, 10.0, "meanwhile"),
            (20.0, 21.0, "last, but first in the file"),
        ]

    def test_negative_times_of_ass(self, tmp_path):
        text = ASS.replace("0,0:00:01.00,", "0,-0:00:01.00,").replace("Open", "-0:00:01.00 x")
        lines = read_subtitles(write(tmp_path / "a.ass", text))
        assert said(lines)[0] == (0.0, 2.5, "-0:00:01.00 x, the fridge")

    @pytest.mark.parametrize("ends", ["\r\n", "\r"])
    def test_other_ends_of_lines(self, tmp_path, ends):
        lines = read_subtitles(write(tmp_path / "a.srt", SRT.replace("\n", ends)))
        assert [line.start for line in lines] == [1.0, 3.04]

    def test_other_scripts_pass_untouched(self, tmp_path):
        texts = ["你好，你今天怎么样？", "こんにちは　元気ですか。", "שלום & <b>x", "می‌خواهم"]
        lines = read_subtitles(write(tmp_path / "a.srt", srt(*texts)))
        assert [line.text for line in lines] == [*texts[:2], "שלום & x", texts[3]]


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    def test_unicode(self, tmp_path, encoding, caplog):
        lines = read_subtitles(write(tmp_path / "a.srt", srt("日本語", "naïve"), encoding))
        assert [line.text for line in lines] == ["日本語", "naïve"]
        assert not caplog.records

    @pytest.mark.parametrize(
        ("encoding", "texts"),
        [
            ("cp1252", ["Où est-il allé ? Ça m'est égal.", "À bientôt, mon frère !"]),
            ("cp1251", ["Где ты был вчера?", "Я не знаю, что делать.", "Пойдём домой."]),
            ("gb18030", ["你好，你今天怎么样？", "我们去公园吧。", "天气很好。"]),
            ("cp932", ["こんにちは、元気ですか。", "公園に行きましょう。"]),
        ],
    )
    def test_older_ones_are_read_and_named(self, tmp_path, encoding, texts, caplog):
        with caplog.at_level(logging.WARNING):
            lines = read_subtitles(write(tmp_path / "a.srt", srt(*texts), encoding))
        assert [line.text for line in lines] == texts
        (record,) = caplog.records
        assert f"not UTF-8, read as {encoding}" in record.getMessage()

    @pytest.mark.parametrize(
        ("encoding", "language", "text"),
        [
            ("cp1252", "", "Où est-il allé ?"),
            ("cp1250", "hu", "Gyerünk haza, szőke nő."),
            ("euc_jp", "ja", "こんにちは、元気ですか。"),
        ],
    )
    def test_the_language_decides_where_letters_do_not(self, tmp_path, encoding, language, text):
        path = write(tmp_path / "a.srt", srt(text), encoding)
        assert read_subtitles(path, language)[0].text == text

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the file is empty"),
            (b" \n\n", "the file is empty"),
            (b"\x7fELF\x02\x01\x01\0\0\0\xff\xd8" * 40, "a binary file"),
            (b"plain text without a time\n", "no line of text in it"),
            (b"WEBVTT\n", "no line of text in it"),
            (b"\xff\xfe" + "abc".encode("utf-16-le") + b"\0", "begins as UTF-16, but is not"),
            (b"\xef\xbb\xbf1\n00:00:01,000 --> 00:00:02,000\n\xe9\xe8", "begins as UTF-8, but"),
            (bytes(range(1, 256)) * 4, "neither UTF-8 nor any other known encoding"),
        ],
    )
    def test_what_is_no_text_is_one_line(self, tmp_path, data, reason):
        (tmp_path / "a.srt").write_bytes(data)
        with pytest.raises(TranscriptError, match=reason) as error:
            read_subtitles(tmp_path / "a.srt")
        assert str(tmp_path / "a.srt") in str(error.value)
        assert "\n" not in str(error.value)

    def test_missing(self, tmp_path):
        with pytest.raises(TranscriptError, match=r"no\.srt: cannot be read \(No such file"):
            read_subtitles(tmp_path / "no.srt")


class TestSidecars:
    def test_names(self, tmp_path):
        mine = ["a.SRT", "a.en.srt", "a.pt-BR.vtt", "a.de.forced.ass", "a.b.srt", "a.zh.ssa"]
        others = ["ab.srt", "b.srt", "a.txt", "A.en.srt", "xa.srt", "a.en.sub"]
        for name in [*mine, *others, "a.mp4"]:
            (tmp_path / name).write_text("")
        (tmp_path / "a.fr.srt").mkdir()
        assert [path.name for path in sidecars(tmp_path / "a.mp4")] == sorted(mine)

    def test_a_longer_name_takes_its_own(self, tmp_path):
        for name in ("a.mp4", "a.b.MKV", "a.srt", "a.b.srt", "a.b.en.srt", "a.bc.srt"):
            (tmp_path / name).write_text("")
        assert [path.name for path in sidecars(tmp_path / "a.mp4")] == ["a.bc.srt", "a.srt"]
        found = [path.name for path in sidecars(tmp_path / "a.b.MKV")]
        assert found == ["a.b.en.srt", "a.b.srt"]

    def test_names_with_signs_and_accents_taken_apart(self, tmp_path):
        for name in ("[x] caf\u00e9 *.mp4", "[x] cafe\u0301 *.fr.srt"):
            (tmp_path / name).write_text("")
        (path,) = sidecars(tmp_path / "[x] caf\u00e9 *.mp4")
        assert language_beside(tmp_path / "[x] caf\u00e9 *.mp4", path) == "fr"

    @pytest.mark.parametrize(
        ("video", "name", "language"),
        [
            ("a.mp4", "a.srt", ""),
            ("a.mp4", "a.en.srt", "en"),
            ("a.mp4", "a.eng.sdh.srt", "en"),
            ("a.mp4", "a.forced.pt_br.srt", "pt-BR"),
            ("a.mp4", "a.zh-Hans.srt", "zh-Hans"),
            ("a.mp4", "a.es-419.srt", "es-419"),
            ("a.mp4", "a.cut.srt", ""),  # a language of Mexico, too
            ("this.is.it.mp4", "this.is.it.srt", ""),
            ("this.is.it.mp4", "this.is.it.de.srt", "de"),
        ],
    )
    def test_language(self, video, name, language):
        assert language_beside(video, name) == language

    def test_tags(self):
        assert [language_tag(t) for t in ("ger", "jpn", "und", "", "no such")] == [
            *("de", "ja"), *[""] * 3
        ]  # fmt: skip


class TestStreams:
    def test_srt_in_matroska(self, tmp_path):
        cues = [(1.0, 1.5, b"<i>Open</i> the fridge"), (3.04, 0.96, "你好".encode())]
        path = write_video(tmp_path / "a.mkv", ("srt", "ger", cues))
        lines = read_streams(path)
        assert said(lines) == [(1.0, 2.5, "Open the fridge"), (3.04, 4.0, "你好")]
        assert {(line.language, line.source) for line in lines} == {("de", "stream 1 (srt)")}
        assert lines.unusable == ()

    def test_timed_text_in_mp4(self, tmp_path):
        cues = [(1.0, 1.5, timed_text("Open <the> fridge")), (3.0, 1.0, timed_text("二\n行"))]
        lines = read_streams(write_video(tmp_path / "a.mp4", ("mov_text", "eng", cues)))
        assert said(lines) == [(1.0, 2.5, "Open <the> fridge"), (3.0, 4.0, "二 行")]
        assert lines[0].language == "en"

    def test_ass_and_webvtt(self, tmp_path):
        ass = [(1.0, 1.5, rb"0,0,Default,,0,0,0,,{\i1}Open{\i0}, the\Nfridge")]
        vtt = [(1.2, 1.0, b"<v Ann>Ouvre &lt;")]
        path = write_video(tmp_path / "a.mkv", ("ass", "eng", ass), ("webvtt", "fre", vtt))
        lines = read_streams(path)
        assert said(lines) == [(1.0, 2.5, "Open, the fridge"), (1.2, 2.2, "Ouvre <")]
        assert [line.language for line in lines] == ["en", "fr"]

    def test_a_file_put_into_a_video(self, tmp_path):
        path = tmp_path / "a.mkv"
        with (
            av.open(io.BytesIO(ASS.encode()), format="ass") as source,
            av.open(str(path), "w") as sink,
        ):
            video = sink.add_stream("libx264", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            stream = sink.add_stream_from_template(source.streams[0])
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            sink.mux(video.encode(frame))
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    sink.mux(packet)
            sink.mux(video.encode(None))
        assert said(read_streams(path)) == said(read_subtitles(write(tmp_path / "a.ass", ASS)))

    def test_pictures_and_broken_text_are_named_and_the_rest_is_read(self, tmp_path):
        path = write_video(
            tmp_path / "a.mkv",
            ("dvdsub", "eng", [(1.0, 1.0, b"\0\0")]),
            ("srt", "eng", [(1.0, 1.0, b"caf\xe9")]),
            ("srt", "eng", [(2.0, 1.0, b"words")]),
        )
        lines = read_streams(path)
        assert said(lines) == [(2.0, 3.0, "words")]
        (broken,) = lines.unusable
        assert lines.silent == f"{path}: subtitle stream 1 (dvdsub) is not text; skipped"
        assert "subtitle stream 2 (srt) cannot be read ('utf-8' codec" in broken

    def test_no_stream(self, small_video):
        assert read_streams(small_video) == []
        assert read_streams(small_video).unusable == ()

    def test_times_begin_where_the_film_does(self, tmp_path):
        """A clock that begins at 100 s is set to 0, that of subtitles with it."""
        plain = write_video(tmp_path / "a.mkv", ("srt", "eng", [(1.0, 1.5, b"words")]))
        late = set_forward(plain, tmp_path / "late.mkv", lambda time: 100)
        assert said(read_streams(late)) == [(1.0, 2.5, "words")]

    def test_times_go_on_where_the_clock_jumps(self, tmp_path, caplog):
        cues = [(1.0, 1.5, b"before"), (4.0, 0.5, b"after")]
        plain = write_video(tmp_path / "a.mkv", ("srt", "eng", cues))
        path = set_forward(plain, tmp_path / "jump.mkv", lambda time: 5000 * (time >= 3))
        assert said(read_streams(path)) == [(1.0, 2.5, "before"), (4.0, 4.5, "after")]
        assert "its clock jumps once (at 3.00 s" in caplog.text


class TestSaidIn:
    def test_files_of_all_languages_then_streams_of_others(self, tmp_path):
        path = write_video(
            tmp_path / "a.mkv",
            ("srt", "eng", [(1.0, 1.0, b"other words")]),
            ("srt", "fre", [(1.0, 1.0, b"ouvre")]),
        )
        write(tmp_path / "a.en.srt", srt("open"))
        write(tmp_path / "a.de.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nöffne\n")
        lines = said_in(path)
        assert sorted((line.language, line.text) for line in lines) == [
            ("de", "öffne"), ("en", "open"), ("fr", "ouvre"),
        ]  # fmt: skip
        assert lines.unusable == ()

    def test_a_file_of_unknown_language_stands_for_all_streams(self, tmp_path):
        path = write_video(tmp_path / "a.mkv", ("srt", "eng", [(1.0, 1.0, b"other words")]))
        write(tmp_path / "a.srt", srt("open"))
        assert [line.text for line in said_in(path)] == ["open"]

    def test_copies_are_told_once(self, tmp_path):
        write(tmp_path / "a.srt", srt("open", "close", "open"))
        write(tmp_path / "a.en.srt", srt("open", "shut"))
        assert [line.text for line in said_in(tmp_path / "a.mp4")] == [
            "open", "shut", "close", "open"
        ]  # fmt: skip

    def test_one_broken_file_is_one_line(self, tmp_path):
        video = write_video(tmp_path / "a.mkv", ("srt", "eng", [(1.0, 1.0, b"inside")]))
        write(tmp_path / "a.en.srt", "")
        write(tmp_path / "a.de.srt", srt("draußen"))
        lines = said_in(video)
        assert [line.text for line in lines] == ["draußen", "inside"]
        (problem,) = lines.unusable
        assert "a.en.srt: the file is empty" in problem

    def test_nothing_to_read(self, small_video, tmp_path):
        assert said_in(small_video) == []
        lines = said_in(small_video)
        assert lines.unusable == ()
        assert (
            lines.silent
            == f"{small_video}: no subtitles beside or in it; a recogniser could listen"
        )
        (problem,) = said_in(tmp_path / "no.mp4").unusable
        assert "no such file" in problem

    def test_what_people_wrote_wins_over_a_recogniser(self, tmp_path):
        class Listening:
            asked = 0

            def transcribe(self, video):
                self.asked += 1
                return [Line(0.0, 1.0, "heard", "", "model")]

        video = film(tmp_path / "a.mp4")
        write(tmp_path / "a.srt", srt("written"))
        model = Listening()
        assert [line.text for line in said_in(video, model)] == ["written"]
        assert model.asked == 0
        write(tmp_path / "a.srt", "")
        lines = said_in(video, model)
        assert [line.text for line in lines] == ["heard"]
        assert "the file is empty" in lines.unusable[0]


class TestLines:
    @pytest.mark.parametrize(
        ("start", "end", "text"),
        [(-1, 1, "a"), (1, 1, "a"), (2, 1, "a"), (0, float("inf"), "a"), (0, 1, " "),
         (float("nan"), 1, "a")],
    )  # fmt: skip
    def test_no_line(self, start, end, text):
        with pytest.raises(ValueError, match="a line needs"):
            Line(start, end, text)

    @hypothesis.given(
        st.lists(
            st.tuples(st.floats(-10, 100), st.floats(-10, 100), st.lists(st.sampled_from("abc")))
        )
    )
    def test_every_cue_is_told_in_order(self, cues):
        lines = tidy(Cue(start, end, tuple(rows)) for start, end, rows in cues)
        assert [line.start for line in lines] == sorted(line.start for line in lines)
        for start, end, rows in cues:
            before = start < 0 and end <= 0
            for row in () if before else rows:  # at its time, or from when it came
                assert any(
                    row in line.text.split() and line.start <= max(start, 0) for line in lines
                )

    def test_what_does_not_roll_up_stays(self):
        cues = [
            Cue(0, 1, ("no",)),
            Cue(1, 2, ("no",)),  # stays on
            Cue(5, 6, ("no",)),  # said again
            Cue(5.5, 7, ("yes", "no")),  # another voice meanwhile
        ]
        assert said(tidy(cues)) == [(0, 2, "no"), (5, 6, "no"), (5.5, 7, "yes no")]

    def test_a_line_without_an_end_does_not_stand_for_long(self):
        cues = [Cue(1, 1, ("a",)), Cue(1, 1, ("b",)), Cue(1.5, 1, ("c",))]
        assert said(tidy(cues)) == [(1, 1.5, "a"), (1, 1.5, "b"), (1.5, 3.5, "c")]
