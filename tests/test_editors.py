"""Moments as timelines, read back by OpenTimelineIO, of films at the rates of cinema and TV."""

import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote
from urllib.request import url2pathname
from xml.etree import ElementTree as Xml

import av
import numpy as np
import pytest
from films import grey

import zsvg
from zsvg.errors import ZsvgError
from zsvg.grounding.editors import editing_rate
from zsvg.grounding.writers import moments_text, write_moments
from zsvg.records import Annotation, Prediction
from zsvg.video import reading

otio = pytest.importorskip("opentimelineio")
pytest.importorskip("otio_cmx3600_adapter")
pytest.importorskip("otio_fcpx_xml_adapter")

CINEMA, PAL, NTSC = Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001)
ODD = "a \"big\" <red> & 'blue' café.mp4"


def film(path: Path, rate: Fraction, seconds: float = 4.0, timecode: str | None = None) -> Path:
    """Write a film at a rate, of as many frames as fit into some seconds."""
    with av.open(str(path), "w", options={"video_track_timescale": str(rate.numerator)}) as sink:
        if timecode:
            sink.metadata["timecode"] = timecode
        video = sink.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.options = {"bf": "0"}
        for index in range(int(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(grey(index % 20), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            sink.mux(video.encode(frame))
        sink.mux(video.encode(None))
    return path


def answer(path: Path, *windows: tuple[float, float, float], query: str = "a dog") -> Prediction:
    return Prediction(
        qid=0,
        query=query,
        vid=path.stem,
        pred_relevant_windows=windows,
        extra={"path": str(path)},
    )


def clips_of(file: Path, rate: Fraction) -> list:
    """Return the clips of a timeline that OpenTimelineIO reads."""
    given = {"rate": float(rate)} if file.suffix == ".edl" else {}
    return list(otio.adapters.read_from_file(str(file), **given).find_clips())


def times(clip) -> tuple[float, float]:
    """Return start and duration, seconds."""
    span = clip.source_range
    return span.start_time.to_seconds(), span.duration.to_seconds()


@pytest.mark.parametrize("rate", [CINEMA, PAL, NTSC], ids=["23.976", "25", "29.97"])
@pytest.mark.parametrize("form", ["otio", "edl", "fcpxml"])
def test_times_are_read_back_at_the_rates_of_cinema_and_tv(tmp_path, rate, form):
    """Frames 24 to 48 and 72 to 84, given in seconds that are a third of a frame off."""
    path = film(tmp_path / "cam1.mp4", rate)
    third = 1 / (3 * float(rate))
    frames = [(24, 48), (72, 84)]
    windows = [(a / float(rate) + third, b / float(rate) - third, 0.5) for a, b in frames]
    (file,) = write_moments(tmp_path / f"hits.{form}", [answer(path, *windows)])
    found = clips_of(file, rate)
    exact = [(float(a / rate), float((b - a) / rate)) for a, b in frames]
    # The adapter that reads FCPXML counts 23.976 as 23 frames a second, and rounds down.
    error = 1 / int(rate) + 1e-6 if form == "fcpxml" else 1e-6
    assert [times(clip) for clip in found] == [pytest.approx(time, abs=error) for time in exact]
    if form != "fcpxml":
        assert [clip.source_range.start_time.value for clip in found] == [24, 72]
        assert found[0].source_range.start_time.rate == pytest.approx(float(rate))


@pytest.mark.parametrize("rate", [CINEMA, PAL, NTSC], ids=["23.976", "25", "29.97"])
def test_fcpxml_cuts_between_frames(tmp_path, rate):
    path = film(tmp_path / "cam1.mp4", rate)
    moments = answer(path, (1.0, 2.0, 0.5), (3.0, 3.5, 0.4))
    (file,) = write_moments(tmp_path / "hits.fcpxml", [moments])
    root = Xml.parse(file).getroot()
    assert seconds(root.find("resources/format").get("frameDuration")) == 1 / rate
    assert seconds(root.find("resources/asset").get("duration")) == int(4 * rate) / rate
    clips = list(root.iter("asset-clip"))
    spans = [
        [seconds(clip.get(k)) * rate for k in ("start", "duration", "offset")] for clip in clips
    ]
    whole = round(rate)  # one second; two of 23.976 or 29.97 are 48 or 60 frames, too
    half = round(3.5 * rate) - 3 * whole
    assert spans == [[whole, whole, 0], [3 * whole, half, whole]]
    assert seconds(root.find(".//sequence").get("duration")) * rate == whole + half


def seconds(text: str) -> Fraction:
    return Fraction(text.removesuffix("s"))


def test_what_a_clip_tells(tmp_path):
    path = film(tmp_path / ODD, PAL)
    asked = 'a "dog" & a cat\n<runs> ünïcode'
    (file,) = write_moments(tmp_path / "my hits.otio", [answer(path, (1, 2, 0.625), query=asked)])
    timeline = otio.adapters.read_from_file(str(file))
    (clip,) = timeline.find_clips()
    assert (timeline.name, clip.name) == ("my hits", ODD)
    url = clip.media_reference.target_url
    assert url.startswith("file:///")
    assert Path(url2pathname(url.removeprefix("file://"))) == path
    whole = clip.media_reference.available_range
    assert (whole.start_time.value, whole.duration.value) == (0, 100)
    line = 'a "dog" & a cat <runs> ünïcode'
    assert clip.markers[0].name == line
    assert dict(clip.metadata["zsvg"]) == {"query": line, "score": 0.625}
    (file,) = write_moments(tmp_path / "hits.fcpxml", [answer(path, (1, 2, 0.625), query=asked)])
    assert Xml.parse(file).findtext(".//note") == f"{line} (0.625)"
    (clip,) = clips_of(file, PAL)
    assert (clip.name, clip.media_reference.target_url) == (ODD, url)
    assert clip.markers[0].name == line
    (file,) = write_moments(tmp_path / "hits.edl", [answer(path, (1, 2, 0.625), query=asked)])
    (clip,) = clips_of(file, PAL)
    assert (clip.name, clip.media_reference.target_url) == (ODD, url)
    assert clip.metadata["cmx_3600"]["reel"] == "ABIGREDB"
    assert list(clip.metadata["cmx_3600"]["comments"]) == [f"COMMENT: {line} (0.625)"]


def test_edl_of_ntsc_counts_drop_frame(tmp_path):
    """By SMPTE ST 12: 1800 frames after the hour, the labels ;00 and ;01 are left out."""
    path = film(tmp_path / "cam.mp4", NTSC, 70)
    window = (1800 / float(NTSC), 1860 / float(NTSC), 0.5)
    (file,) = write_moments(tmp_path / "hits.edl", [answer(path, window)])
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["TITLE: hits", "FCM: DROP FRAME"]
    times = "00:01:00;02 00:01:02;02 00:00:00;00 00:00:02;00"
    assert " ".join(lines[3].split()) == f"001 CAM V C {times}"
    path = film(tmp_path / "pal.mp4", PAL)
    text = moments_text([answer(path, (1.0, 2.52, 0.5))], "edl")
    assert "FCM: NON-DROP FRAME" in text
    assert "00:00:01:00 00:00:02:13 00:00:00:00 00:00:01:13" in text


def test_frames_are_counted_from_the_timecode_of_the_camera(tmp_path):
    path = film(tmp_path / "cam.mov", PAL, timecode="10:00:00:00")
    first = 10 * 3600 * 25
    for form in ("otio", "edl", "fcpxml"):
        (file,) = write_moments(tmp_path / f"hits.{form}", [answer(path, (1, 2, 0.5))])
        (clip,) = clips_of(file, PAL)
        assert clip.source_range.start_time.value == first + 25
        if form != "edl":  # an EDL does not say how long files are
            whole = clip.media_reference.available_range
            assert (whole.start_time.value, whole.duration.value) == (first, 100)


def test_a_timeline_of_several_rates(tmp_path):
    """In the order of the answer; an EDL has one rate."""
    one, two = film(tmp_path / "one.mp4", NTSC), film(tmp_path / "two.mp4", PAL)
    records = [
        answer(two, (1, 2, 0.9)),
        answer(one, (1, 2, 0.8), (3, 4, 0.7)),
        answer(two, (0, 1, 0.1)),
    ]
    (file,) = write_moments(tmp_path / "hits.otio", records)
    timeline = otio.adapters.read_from_file(str(file))
    assert [clip.name for clip in timeline.find_clips()] == [
        "two.mp4",
        "one.mp4",
        "one.mp4",
        "two.mp4",
    ]
    assert timeline.global_start_time.rate == 25  # of as many moments as 29.97, and first
    files = write_moments(tmp_path / "hits.edl", records)
    assert [file.name for file in files] == ["hits.25.edl", "hits.29.97.edl"]
    assert [len(clips_of(f, r)) for f, r in zip(files, (PAL, NTSC), strict=True)] == [2, 2]
    with pytest.raises(ZsvgError, match=r"edl counts in one frame rate.*have 25, 29\.97"):
        moments_text(records, "edl")


def test_the_rate_of_most_moments_is_that_of_the_timeline(tmp_path):
    one, two = film(tmp_path / "one.mp4", CINEMA), film(tmp_path / "two.mp4", PAL)
    records = [answer(one, (1, 2, 0.9)), answer(two, (1, 2, 0.8), (2, 3, 0.7))]
    root = Xml.fromstring(moments_text(records, "fcpxml"))
    formats = {f.get("id"): seconds(f.get("frameDuration")) for f in root.iter("format")}
    assert formats[root.find(".//sequence").get("format")] == Fraction(1, 25)
    clips = list(root.iter("asset-clip"))
    assert [formats[clip.get("format")] for clip in clips] == [1 / CINEMA, 1 / PAL, 1 / PAL]
    # 24 frames of 1001/24000 s, 1.001 s, are 25 frames of the timeline.
    assert [clip.get("offset") for clip in clips] == ["0s", "1s", "2s"]


def test_reels_tell_files_apart(tmp_path):
    names = ("camera one a.mp4", "camera one b.mp4", "日本.mp4", "bl.mp4")
    files = [film(tmp_path / name, PAL) for name in names]
    text = moments_text([answer(file, (1, 2, 0.5)) for file in files], "edl")
    assert re.findall(r"^\d{3}  (\w+) ", text, re.M) == ["CAMERAON", "CAMERAO2", "CLIP", "BL2"]


def test_moments_are_cut_to_their_file_and_last_a_frame(tmp_path):
    path = film(tmp_path / "cam.mp4", PAL)
    record = answer(path, (3, 9, 0.5), (-1, 1, 0.4), (2.001, 2.002, 0.3), (50, 60, 0.2))
    (file,) = write_moments(tmp_path / "hits.otio", [record])
    spans = [clip.source_range for clip in clips_of(file, PAL)]
    frames = [(int(span.start_time.value), int(span.duration.value)) for span in spans]
    assert frames == [(75, 25), (0, 25), (50, 1), (99, 1)]


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (23.976, CINEMA),
        (24, 24),
        (29.9697, NTSC),
        (59.94, Fraction(60000, 1001)),
        (12.5, 25),
        (14.985, NTSC),
        (10, 30),
        (20, 60),
        (26.1, 25),
        (120, 60),
    ],
)
def test_rates_of_editors(fps, rate):
    assert editing_rate(fps) == rate


def test_a_video_without_a_frame_rate_is_named(tmp_path, monkeypatch):
    path = film(tmp_path / "cam.mp4", PAL)
    without = replace(reading.probe(path), fps=None)
    monkeypatch.setattr(reading, "probe", lambda _: without)
    with pytest.raises(ZsvgError, match=r"cam\.mp4: has no frame rate"):
        write_moments(tmp_path / "none.otio", [answer(path, (1, 2, 0.5))])


def test_what_no_timeline_is_made_of(tmp_path):
    path = film(tmp_path / "cam.mp4", PAL)
    for form in ("otio", "edl", "fcpxml"):
        with pytest.raises(ZsvgError, match="no moments to put on a timeline"):
            write_moments(tmp_path / f"none.{form}", [answer(path)])
    truth = Annotation(qid=1, query="q", vid="cam9", duration=4, relevant_windows=((1, 2),))
    with pytest.raises(ZsvgError, match="video 'cam9': its file is not known"):
        write_moments(tmp_path / "none.otio", [truth])
    features = tmp_path / "cam3.npy"
    features.write_bytes(b"\x93NUMPY, or what follows")
    with pytest.raises(ZsvgError, match=r"cam3\.npy"):
        write_moments(tmp_path / "none.edl", [answer(features, (1, 2, 0.5))])
    assert not list(tmp_path.glob("none.*"))


def test_a_video_that_is_gone_takes_no_other_along(tmp_path):
    here, gone = film(tmp_path / "here.mp4", PAL), tmp_path / "gone.mp4"
    found = [answer(gone, (1, 2, 0.9), (3, 4, 0.1)), answer(here, (1, 2, 0.5))]
    for form in ("otio", "edl", "fcpxml"):
        failures: list[str] = []
        (file,) = write_moments(tmp_path / f"some.{form}", found, failures)
        assert [clip.name for clip in clips_of(file, PAL)] == ["here.mp4"]
        (line,) = failures
        assert "gone.mp4: no such file" in line
        assert line.endswith("; it is not on the timeline")
        assert moments_text(found, form, []).count("here.mp4")
    with pytest.raises(ZsvgError, match=r"gone\.mp4"):
        write_moments(tmp_path / "none.otio", found)
    with pytest.raises(ZsvgError, match=r"gone\.mp4"):
        write_moments(tmp_path / "none.otio", found[:1], [])
    assert not (tmp_path / "none.otio").exists()


def test_without_the_extra_one_line_names_it(run_zsvg, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    for asked in (["-o", str(tmp_path / "hits.edl")], ["--format", "otio"]):
        status, out, error = run_zsvg("ground", tmp_path, "a dog", "-m", "micro", *asked)
        assert (status, out) == (1, "")
        assert "pip install 'zsvg[editors]'" in error
        assert error.count("\n") == 1


def test_commands_write_timelines(run_zsvg, tmp_path, monkeypatch):
    """Of the moments of the table, in their order; paths are made absolute."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my videos"
    folder.mkdir()
    for name in ("one", "two"):
        film(folder / f"{name}.mp4", PAL, 8)
    common = ("ground", "my videos", "a red circle", "-m", "micro", "--top-k", "3", "--cache", "c")
    status, out, error = run_zsvg(*common, "-o", "hits.otio")
    assert status == 0, error
    clips = clips_of(Path("hits.otio"), PAL)
    assert len(clips) == 3
    shown = re.findall(r"(\w+\.mp4)", out)
    assert [clip.name for clip in clips] == shown
    roots = {
        Path(unquote(clip.media_reference.target_url.removeprefix("file://"))).parent
        for clip in clips
    }
    assert roots == {folder}
    status, out, error = run_zsvg(*common, "--format", "edl")
    assert status == 0, error
    assert out.startswith("TITLE: moments\nFCM: NON-DROP FRAME\n")
    queries = Annotation(qid=1, query="a red circle", vid="two", duration=8)
    write_moments("queries.jsonl", [queries])
    status, _, error = run_zsvg(
        "predict", "queries.jsonl", "--videos", "my videos", "-m", "micro", "-o", "p.fcpxml",
        "--top-k", "2", "--cache", "c",
    )  # fmt: skip
    assert status == 0, error
    assert {clip.name for clip in clips_of(Path("p.fcpxml"), PAL)} == {"two.mp4"}
    status, _, error = run_zsvg("baseline", "whole", "queries.jsonl", "-o", "whole.edl")
    assert (status, "video 'two': its file is not known" in error) == (1, True)
    status, _, error = run_zsvg("ground", "a dog", "--features", "f/", "-m", "micro", "-o", "f.edl")
    assert (status, "and features have none" in error) == (1, True)


def test_search_writes_timelines(run_zsvg, tmp_path):
    pytest.importorskip("lancedb")
    paths = [film(tmp_path / f"{name}.mp4", PAL, n) for name, n in (("one", 8), ("two", 6))]
    library = tmp_path / "library"
    status, _, error = run_zsvg("index", tmp_path, "-o", library, "-m", "micro")
    assert status == 0, error
    hits = tmp_path / "hits.edl"
    asked = ("a red circle", "--top", "4", "--all", "-o", hits)  # the films are much alike
    status, _, error = run_zsvg("search", library, *asked)
    assert status == 0, error
    clips = clips_of(hits, PAL)
    assert 2 <= len(clips) <= 4
    assert {clip.media_reference.target_url for clip in clips} == {p.as_uri() for p in paths}
    paths[0].unlink()
    status, out, error = run_zsvg("search", library, *asked[:-1], hits)
    assert status == 1
    assert "one.mp4" in out  # what is known of it is shown all the same
    assert re.search(r"one\.mp4: .*; it is not on the timeline", error)
    clips = clips_of(hits, PAL)
    assert {clip.media_reference.target_url for clip in clips} == {paths[1].as_uri()}


def test_features_alone_make_no_timeline(run_zsvg, tmp_path):
    pytest.importorskip("lancedb")
    features, library = tmp_path / "features", tmp_path / "library"
    features.mkdir()
    width = zsvg.load("micro").backbone.embed_dim
    np.save(features / "one.npy", np.eye(width, dtype=np.float32)[:9])
    made = ("--features", features, "--clip-seconds", "1", "-m", "micro")
    status, _, error = run_zsvg("index", *made, "-o", library)
    assert status == 0, error
    for asked in (["-o", tmp_path / "hits.edl"], ["--format", "otio"], ["--cut", tmp_path / "c"]):
        status, _, error = run_zsvg("search", library, "a red circle", *asked)
        assert status == 1
        assert f"{library} holds features alone; give another form" in error
        assert error.count("\n") == 1
    assert run_zsvg("search", library, "a red circle", "-o", tmp_path / "hits.csv")[0] == 0
