"""The demo on a server, asked through its named endpoints as programs do, and its parts alone."""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import zipfile
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import zsvg
from tests.conftest import (
    HANG,
    coloured_frames,
    encode_video,
    started,
    wait_for,
)
from tests.demo_pages import Page, command, labelled_page
from tests.films import film, join, seconds_shown
from zsvg.records import read_annotations
from zsvg.resources import demo_module, shipped
from zsvg.training.labels import is_pseudo
from zsvg.video.reading import decode_summary, probe
from zsvg.video.sampling import load_frames_at
from zsvg.video.writing import cut

app, asking, heading, jobs, previews, timeline, visits = (
    demo_module(name)
    for name in ("app", "asking", "heading", "jobs", "previews", "timeline", "visit")
)

DOCUMENTATION = (Path(__file__).parent.parent / "docs" / "demo.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def grounder(tiny_clip_folder: Path) -> zsvg.Grounder:
    return zsvg.load(f"local-dir:{tiny_clip_folder}", "cpu")


@pytest.fixture(scope="module")
def page(grounder: zsvg.Grounder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    limits = visits.Limits(upload_mb=1, minutes=1.0, queue=8)
    build = functools.partial(app.build_demo, grounder, limits=limits)
    with Page(build, limits, tmp_path_factory) as page:
        yield page


def test_answers_are_the_grounders(page: Page, grounder: zsvg.Grounder, small_video: Path):
    said = page.call("/open", page.file(small_video))
    assert (said["video"], said["duration"], said["note"]) == ("small", 4.0, "")
    found, srt, vtt, written = page.call("/ground", "a red square\n\n a  blue circle ", 3)
    assert [answer["sentence"] for answer in found["answers"]] == ["a red square", "a blue circle"]
    for answer in found["answers"]:
        expected = grounder.ground(small_video, answer["sentence"], top_k=3)
        assert answer["model"] == "training-free"
        assert answer["absent"] is False
        assert len(answer["moments"]) == len(expected.moments) > 0
        for moment, truth in zip(answer["moments"], expected.moments, strict=True):
            assert moment["start"] == pytest.approx(truth.start, abs=0.001)
            assert moment["end"] == pytest.approx(truth.end, abs=0.001)
            assert moment["score"] == pytest.approx(truth.score, abs=0.0001)
        assert len(answer["curve"]["seconds"]) == len(expected.curve)
    assert "-->" in Path(srt).read_text()
    assert Path(vtt).read_text().startswith("WEBVTT")
    assert json.loads(Path(written).read_text()) == found


def test_a_moment_is_cut_out(page: Page, small_video: Path):
    page.call("/open", page.file(small_video))
    best = page.call("/ground", "a red square", 1)[0]["answers"][0]["moments"][0]
    clip = decode_summary(page.call("/clip", 0, 0))
    assert clip.duration == pytest.approx(best["end"] - best["start"], abs=0.11)
    assert page.refusal("/clip", 0, 7) == "there is no such moment; ask first"
    assert page.refusal("/clip", -1, 0) == "there is no such moment; ask first"


def test_the_second_question_does_not_encode_again(
    page: Page, grounder: zsvg.Grounder, small_video: Path, monkeypatch: pytest.MonkeyPatch
):
    encoded = []
    original = grounder.encode
    monkeypatch.setattr(
        grounder, "encode", lambda video, **more: encoded.append(video) or original(video, **more)
    )
    page.call("/open", page.file(small_video))
    page.call("/ground", "a red square", 1)
    page.call("/ground", "a blue circle", 1)
    assert len(encoded) == 1
    page.call("/open", page.file(small_video))
    page.call("/ground", "a blue circle", 1)
    assert len(encoded) == 2


@pytest.mark.parametrize(
    ("sentences", "answers", "message"),
    [
        ("  \n ", 3, "write a sentence"),
        ("a" * 301, 3, "at most 300"),
        ("\n".join("abcdefghi"), 3, "ask up to 8"),
        ("a cat", 0, "ask for 1 to 20"),
    ],
)
def test_bad_questions_are_refused_in_one_line(
    page: Page, small_video: Path, sentences: str, answers: int, message: str
):
    page.call("/open", page.file(small_video))
    refusal = page.refusal("/ground", sentences, answers)
    assert message in refusal
    assert "\n" not in refusal


def test_a_visitor_never_sees_the_video_of_another(page: Page, small_video: Path):
    page.call("/open", page.file(small_video))
    other = page.another_client()
    assert "upload a video first" in page.refusal("/ground", "a red square", 1, client=other)
    assert "no labels yet" in page.refusal("/label_export", client=other)
    assert page.call("/ground", "a red square", 1)[0]["video"] == "small"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("renamed.mp4", b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 64, "renamed.mp4: "),
        ("text.mp4", b"this is not a video at all", "text.mp4: "),
        ("empty.webm", b"", "empty.webm: "),
        ("<img src=x>.avi", b"<script>alert(1)</script>", "is it a video"),
    ],
)
def test_files_that_are_no_videos_are_refused_without_the_servers_folders(
    page: Page,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    message: str,
):
    file = tmp_path / name
    file.write_bytes(content)
    refusal = page.refusal("/open", page.file(file))
    assert message in refusal
    assert not [part for part in ("\n", "/tmp", str(page.served), "Traceback") if part in refusal]
    assert "Traceback" not in capfd.readouterr().err


def test_an_executable_does_not_run_and_the_server_goes_on(page: Page, tmp_path: Path):
    ran = tmp_path / "ran"
    script = tmp_path / "film.mp4"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    assert "film.mp4" in page.refusal("/open", page.file(script))
    assert not ran.exists()
    assert page.get("/")[0] == 200


def test_uploads_above_the_limit_are_refused_and_leave_nothing(page: Page):
    assert page.upload(bytes(1024))[0] == 200
    assert page.upload(bytes(3 * 1024**2))[0] == 413
    assert max(p.stat().st_size for p in page.served.rglob("*") if p.is_file()) < 1024**2
    assert page.get("/")[0] == 200


def test_long_videos_are_refused(page: Page, tmp_path: Path):
    long = encode_video(tmp_path / "long.mp4", coloured_frames(130, 16, 16), fps=2)
    assert "this page takes up to 1, so cut it first" in page.refusal("/open", page.file(long))


OUTSIDE = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file={served}/../../etc/passwd",
    "/gradio_api/file={served}/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file={served}/..%2f..%2fetc/passwd",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=http://127.0.0.1:{port}/config",
    "/gradio_api/file=https://example.com/",
    "/gradio_api/file=HTTP%3A%2F%2Fexample.com",
    "/gradio_api/file//etc/passwd",
    "/gradio_api/proxy=https://example.com/",
    "/gradio_api/file={source}",
    "/gradio_api/file={cwd}/pyproject.toml",
    "/gradio_api/file={kept}",
    "/static/../../../../../../etc/passwd",
    "/assets/..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/../../../../etc/passwd",
]


def test_nothing_outside_the_servers_folder_is_handed_out(page: Page, small_video: Path):
    page.call("/open", page.file(small_video))
    kept = [path for path in page.site_folder.rglob("small.mp4")]
    assert kept  # the visitor's own copy, of which no address is known to anybody
    names = {
        "served": page.served,
        "port": urlparse(page.url).port,
        "source": Path(app.__file__),
        "cwd": Path.cwd(),
        "kept": kept[0],
    }
    for path in OUTSIDE:
        status, body = page.get(path.format(**names))
        assert status in (403, 404, 405), path
        assert b"root:" not in body
        assert b"build_demo" not in body


def test_what_the_page_does_not_use_is_closed(page: Page):
    for path in ("/gradio_api/process_recording", "/gradio_api/vibe-edit"):
        assert page.post(path, b"", {})[0] == 403


def described(path: Path | str) -> dict[str, Any]:
    """A file as the page's own script names it to the server."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_inputs_cannot_name_files_of_the_server(page: Page, small_video: Path):
    _, uploaded = page.upload(small_video.read_bytes())
    assert "event: complete" in page.raw("/open", [described(uploaded)])
    for path in ("/etc/passwd", app.__file__, f"{page.served}/../../etc/passwd", small_video):
        answer = page.raw("/open", [described(path)])
        assert "event: error" in answer
        assert "event: complete" not in answer
        assert str(path) not in answer
        assert "root:" not in answer


def test_twenty_questions_at_once_are_answered_or_refused(page: Page, small_video: Path):
    _, uploaded = page.upload(small_video.read_bytes())

    def ask(number: int) -> str:
        session = f"visitor-{number}"
        opened = page.raw("/open", [described(uploaded)], session)
        return opened + page.raw("/ground", ["a red square", 1], session)

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(ask, range(20)))
    answered = ["a red square" in text and text.count("event: complete") == 2 for text in results]
    assert all(ok or "ueue is full" in t for ok, t in zip(answered, results, strict=True)), results
    assert sum(answered) >= 4
    assert page.get("/")[0] == 200


def test_uploads_leave_room_on_the_disk(page: Page, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_module("gate"), "RESERVE", 10**18)
    assert page.upload(bytes(1024))[0] == 507
    monkeypatch.undo()
    assert page.upload(bytes(1024))[0] == 200


def test_uploads_that_break_off_leave_nothing(page: Page):
    kept = set(page.served.rglob("*"))
    address = urlparse(page.url)
    head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    with socket.create_connection((address.hostname, address.port), HANG) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n"
            b"content-type: multipart/form-data; boundary=x\r\n\r\n" + head + bytes(400_000)
        )
        wait_for(lambda: set(page.served.rglob("*")) > kept)
    wait_for(lambda: set(page.served.rglob("*")) == kept)
    assert page.upload(bytes(1024))[0] == 200


def test_uploads_stop_when_the_disk_runs_full(page: Page, monkeypatch: pytest.MonkeyPatch):
    kept = set(page.served.rglob("*"))
    room = iter([10**12, 10**12])
    monkeypatch.setattr(demo_module("gate"), "_free", lambda: next(room, 0))
    assert page.upload(bytes(900_000))[0] == 400
    assert set(page.served.rglob("*")) == kept


def test_pages_tell_browsers_to_stay_here(page: Page):
    connection = http.client.HTTPConnection(urlparse(page.url).netloc, timeout=HANG)
    connection.request("GET", "/")
    headers = connection.getresponse().headers
    assert "default-src 'self'" in headers["content-security-policy"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with labelled_page(tmp_path_factory) as page:
        yield page


def named(page: Page) -> dict[str, list[str]]:
    """The endpoints of a page, and the parameters of each."""
    endpoints = page.client.view_api(return_format="dict")["named_endpoints"]
    return {
        name: [parameter["parameter_name"] for parameter in about["parameters"]]
        for name, about in endpoints.items()
    }


def test_the_documentation_lists_the_endpoints(workshop: Page):
    table = DOCUMENTATION.partition("<!-- endpoints -->")[2].partition("<!-- /endpoints -->")[0]
    rows = re.findall(r"^\| `(/\w+)` \|(.*?)\|", table, re.MULTILINE)
    assert {name: re.findall(r"`(\w+)`", takes) for name, takes in rows} == named(workshop)


def test_the_documentations_client_works(workshop: Page, capsys: pytest.CaptureFixture[str]):
    (example,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)
    for there, here in {
        "http://127.0.0.1:7860": workshop.url,
        "videos/cam1.mp4": str(workshop.videos[0]),
    }.items():
        assert there in example
        example = example.replace(there, here)
    exec(example, {})
    printed = capsys.readouterr().out
    assert "'duration': 12" in printed
    assert ".mp4" in printed
    assert "'verdict': 'open'" in printed


def test_every_named_endpoint(workshop: Page):
    page = workshop
    called = set()

    def call(name: str, *given: Any) -> Any:
        called.add(name)
        return page.call(name, *given)

    said = call("/sample", "paper")
    assert said["duration"] > 20
    assert len(said["sentences"]) == 3
    call("/open", page.file(page.videos[0]))
    assert call("/ground", "the red star spins", 1)[0]["video"] == page.videos[0].stem
    assert probe(call("/clip", 0, 0)).codec == "h264"
    assert "labels yet" in page.refusal("/tune", "coop", "", 20, "all", 1)
    assert call("/label", "folder", [])["state"] in ("waiting", "running")
    assert page.refusal("/label", "folder", []) == "a run is under way; stop it first"
    assert call("/label_stop")["state"] in ("stopping", "stopped")
    assert page.until("/label_progress", "stopped")["videos"] == []
    call("/label", "folder", [])
    said = page.until("/label_progress", "done")
    called.add("/label_progress")
    assert said["videos"] == [video.stem for video in page.videos]
    for video in said["videos"]:
        labels = call("/labels", video)
        if len(labels) > 2:
            break
    assert [label["picked"] for label in labels][:2] == [True, False]
    assert call("/label_pick", 2)[1]["picked"]
    labels = call("/label_accept", "a green fish sings", 1.25, 2.75)
    assert (labels[1]["verdict"], labels[1]["query"]) == ("fixed", "a green fish sings")
    assert labels[2]["picked"]
    gone = labels[2]["query"]
    assert call("/label_reject")[2]["verdict"] == "rejected"
    assert "does not end after it starts" in page.refusal("/label_accept", "a", 3, 2)
    exported = read_annotations(call("/label_export"))
    mine = [label for label in exported if not is_pseudo(label)]
    assert [(a.query, a.relevant_windows) for a in mine] == [
        ("a green fish sings", ((1.25, 2.75),))
    ]
    assert not [a for a in exported if (a.query, a.vid) == (gone, video)]

    assert "no recipe" in page.refusal("/tune", "../../etc/passwd", "", 20, "all", 1)
    assert call("/tune", "head-only", "", 20, "all", 3)["state"] in ("waiting", "running")
    assert call("/tune_stop")["state"] in ("stopping", "stopped")
    page.until("/tune_progress", "stopped")
    call("/tune", "head-only", "", 20, "all", 3)
    said = page.until("/tune_progress", "done")
    called.add("/tune_progress")
    assert said["done"] == 20
    assert [step for step, _ in said["validation"]] == [20]
    assert Path(call("/tune_use")).suffix == ".zip"
    answers = page.call("/ground", "the red star spins", 1)[0]["answers"]
    assert [answer["model"] for answer in answers] == ["training-free", asking.YOURS]
    assert set(named(page)) == called


def test_heads_other_than_the_recipes_own(workshop: Page):
    client = workshop.another_client()
    call = functools.partial(workshop.call, client=client)
    call("/label", "folder", [])
    workshop.until("/label_progress", "done", client)
    call("/open", workshop.file(workshop.videos[0]))
    for recipe, head in (("coop", "map"), ("head-only", "span"), ("ppt", "pointing")):
        call("/tune", recipe, head, 2, "all", 1)
        assert workshop.until("/tune_progress", "done", client)["done"] == 2
        with zipfile.ZipFile(call("/tune_use")) as model:
            manifest = json.loads(model.read("model/zsvg.json"))
        assert manifest["head"]["kind"] == head
        answers = call("/ground", "the red star spins", 1)[0]["answers"]
        assert [answer["model"] for answer in answers] == ["training-free", asking.YOURS]
    for recipe, head, message in (
        ("coop", "pointing", "no head 'pointing' for coop"),
        ("ppt", "map", "no head 'map' for ppt; choose one of pointing"),
        ("dapl", "", "no recipe 'dapl' here"),
    ):
        assert message in workshop.refusal("/tune", recipe, head, 2, "all", 1, client=client)


def test_browsers_get_what_they_can_play(tmp_path: Path):
    import av

    frames = coloured_frames(12)
    plain = encode_video(tmp_path / "plain.mp4", frames)
    assert previews.plays(probe(plain))
    copied = tmp_path / "copied.mkv"
    copied.write_bytes(plain.read_bytes())
    kinds = {
        "old.avi": ("mpeg4", "yuv420p"),
        "phone.3gp": ("mpeg4", "yuv420p"),
        "full.mp4": ("libx264", "yuv444p"),
        "box.mkv": ("libx264", "yuv420p"),
        "net.webm": ("libvpx-vp9", "yuv420p"),
    }
    for name, (codec, pixels) in kinds.items():
        with av.open(str(tmp_path / name), "w") as sink:
            stream = sink.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                sink.mux(stream.encode(frame))
            sink.mux(stream.encode(None))
    limits = visits.Limits()
    for name in kinds:
        clip = previews.open_clip(tmp_path / name, limits)
        shown = previews.show(clip, tmp_path / "kept")
        if name == "net.webm":
            assert (shown.path.resolve(), shown.note, clip.note) == (clip.path, "", "")
            continue
        assert shown.path.resolve() != clip.path
        assert previews.plays(probe(shown.path)), name
        assert "you see a copy" in shown.note
        assert probe(shown.path).duration == pytest.approx(clip.info.duration, abs=0.15)
    assert len(clip.film) == previews.FILM


def test_a_preview_shows_what_moments_count(tmp_path: Path):
    limits = visits.Limits()
    late = film(tmp_path / "late.webm", range(4), late=1800.0)
    joined = join(
        tmp_path / "joined.ts",
        film(tmp_path / "1.ts", range(2)),
        film(tmp_path / "2.ts", range(2, 4), late=90.0),
    )
    for path in (late, joined):
        shown = previews.show(previews.open_clip(path, limits), tmp_path / "kept")
        assert shown.path.resolve() != path
        assert "clock of its own" in shown.note
        assert seconds_shown(shown.path) == [0, 0, 1, 1, 2, 2, 3, 3]
    name = "\u00e9" * 120 + ".avi"  # as long as names may be
    clip = previews.open_clip(film(tmp_path / name, range(2)), limits)
    assert seconds_shown(previews.show(clip, tmp_path / "kept").path) == [0, 0, 1, 1]


def turned_video(path: Path) -> Path:
    """Write a video coded 64 x 48 whose header turns it clockwise; upright, its top is red.

    Muxers give no way to say so, hence the matrix is written over the one of the track's header.
    """
    pictures = np.full((12, 48, 64, 3), (20, 40, 200), np.uint8)
    pictures[:, :, :16] = (220, 30, 30)  # what is left in the file comes to the top
    content = bytearray(encode_video(path, pictures).read_bytes())
    matrix = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[matrix : matrix + 36])[0] == 1 << 16
    one, w = 1 << 16, 1 << 30
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 << 16, 0, w)
    path.write_bytes(content)
    return path


def test_turned_videos_are_upright_everywhere(tmp_path: Path):
    video = turned_video(tmp_path / "phone.mp4")
    assert probe(video).rotation == -90
    clip = previews.open_clip(video, visits.Limits())
    shown = previews.show(clip, tmp_path / "kept")
    assert "turned): you see a copy" in shown.note
    assert clip.aspect == 48 / 64
    cut(video, 0.2, 0.8, tmp_path / "cut.mp4")
    pictures = [Image.open(BytesIO(b64decode(clip.film[0].partition(",")[2])))]
    for file in (shown.path, tmp_path / "cut.mp4"):
        info = probe(file)
        assert (info.width, info.height, info.rotation) == (48, 64, 0)
        pictures.append(Image.fromarray(load_frames_at(file, [0.1], 64, "squash")[0]))
    for picture in pictures:
        red, _, blue = np.asarray(picture.convert("RGB").resize((8, 8)))[1, 4]
        assert red > 150 > 100 > blue  # top
        red, _, blue = np.asarray(picture.convert("RGB").resize((8, 8)))[6, 4]
        assert blue > 150 > 100 > red  # bottom


def test_a_preview_that_cannot_be_written_leaves_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import resource

    video = turned_video(tmp_path / "phone.mp4")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would be cut off
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as on a disk that is full
    try:
        clip = previews.open_clip(video, visits.Limits())
        shown = previews.show(clip, tmp_path / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shown.path.resolve() == clip.path
    assert "a copy cannot be written (File too large); questions work" in shown.note
    assert len(clip.film) == previews.FILM


def test_previews_of_large_pictures_are_small(tmp_path: Path):
    wide = encode_video(tmp_path / "wide.mp4", np.zeros((3, 60, 1000, 3), np.uint8))
    cut(wide, 0.0, 0.3, tmp_path / "out.mp4", longest=200)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (200, 12)
    with pytest.raises(ValueError, match="longest must be at least 2"):
        cut(wide, 0.0, 0.3, tmp_path / "out.mp4", longest=1)


def test_pictures_above_the_limit_are_refused(small_video: Path, tmp_path: Path):
    limits = visits.Limits(pixels=64 * 47)
    with pytest.raises(zsvg.ZsvgError, match="64 x 48"):
        previews.open_clip(small_video, limits)


def test_curves_keep_their_peak_and_stay_small():
    relevance = np.zeros(7201, np.float32)
    relevance[5003] = 1.0
    answer = zsvg.Grounding(
        query="a", vid="v", moments=(), curve=relevance, centres=np.arange(7201) / 2 + 0.25
    )
    seconds, values = timeline.thin(answer)
    assert len(values) <= timeline.MAX_POINTS
    assert values.max() == 1.0
    assert abs(seconds[values.argmax()] - 5003 / 2) < 10


def test_sentences_and_names_are_escaped(small_video: Path, tmp_path: Path):
    clip = previews.open_clip(small_video, visits.Limits())
    evil = '"><img src=x onerror=alert(1)>'
    answer = timeline.Answer(
        model="<b>m</b>",
        side="a",
        grounding=zsvg.Grounding(
            query=evil,
            vid="v",
            moments=(zsvg.Moment(start=1.0, end=2.0, score=0.5),),
            curve=np.ones(8, np.float32),
            centres=np.arange(8) / 2 + 0.25,
        ),
    )
    for html in (
        timeline.timeline(clip, "p", timeline.answer_lanes([answer])),
        timeline.cards("p", 1.0, [answer], {}),
    ):
        assert "<img src=x" not in html
        assert "<b>m</b>" not in html
        assert 'data-start="1.000"' in html


def test_a_moment_that_may_not_be_there_is_shown_with_doubt():
    moment = zsvg.Moment(start=1.0, end=2.0, score=0.1)
    answer = zsvg.Grounding(
        query="a", vid="v", moments=(moment,), curve=np.ones(8, np.float32),
        centres=np.arange(8) / 2 + 0.25, absent=True,
    )  # fmt: skip
    doubted = timeline.Answer(model="m", side="a", grounding=answer)
    sure = replace(doubted, grounding=replace(answer, absent=False))
    assert doubted.to_json()["absent"] is True
    assert sure.to_json()["absent"] is False
    for said, expected in ((doubted, True), (sure, False)):
        card = timeline.cards("p", 1.0, [said], {})
        (lane,) = timeline.answer_lanes([said])
        assert 'data-start="1.000"' in card
        assert ("no such moment" in card) is ("no such moment" in lane.note) is expected


def test_the_page_says_who_answers(grounder: zsvg.Grounder, tiny_clip_folder: Path):
    said = heading.describe(grounder)
    assert "on local-dir:tiny-clip: nothing trained" in said
    assert str(tiny_clip_folder.parent) not in said
    micro = SimpleNamespace(
        backbone=SimpleNamespace(name="micro"), head=object(), adapter="a", fps=2.0
    )
    assert "on micro: tuned prompts and head" in heading.describe(micro)
    assert "understands only microworld" in heading.heading({"tuned": micro})
    assert "microworld" not in heading.heading({"training-free": grounder})


def test_messages_lose_the_servers_folders(grounder: zsvg.Grounder, tmp_path: Path):
    site = visits.Site(
        {"a": grounder},
        captioner=None,
        videos=tmp_path / "my videos",
        device=None,
        limits=visits.Limits(),
    )
    inside = f"{site.folder}/visits/abc/a b.mp4: bad\nsecond"
    assert site.without_folders(inside) == "a b.mp4: bad"
    assert site.without_folders(f"{tmp_path}/my videos/x.mp4: bad") == "x.mp4: bad"
    assert site.without_folders("/srv/data/x.mp4: is 1/2, ViT-B-32/laion") == (
        "x.mp4: is 1/2, ViT-B-32/laion"
    )


def test_two_pages_do_not_share_anything(grounder: zsvg.Grounder, tiny_clip_folder: Path):
    other = zsvg.load(f"local-dir:{tiny_clip_folder}", "cpu")
    first, second = app.build_demo(grounder), app.build_demo(other)
    assert first is not second
    kept = (zsvg.Grounder, visits.Site, visits.Visit, jobs.Job)
    for name, module in list(sys.modules.items()):
        if name.startswith("zsvg._demo"):
            assert not [key for key, value in vars(module).items() if isinstance(value, kept)]


def test_the_command_serves_two_models_and_leaves_nothing(tiny_clip_folder: Path, tmp_path: Path):
    names = ["--model", "micro", "--model", f"local-dir:{tiny_clip_folder}"]
    with command(tmp_path, *names) as (process, url):
        config = urlopen(f"{url}/config", timeout=HANG).read().decode()
        assert "on micro: nothing trained" in config
        assert "on local-dir:tiny-clip: nothing trained" in config
        assert str(tiny_clip_folder.parent) not in config
        assert len(list(tmp_path.glob("zsvg-demo-*"))) == 2
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG)
        assert process.returncode == 0
    assert not list(tmp_path.glob("zsvg-demo-*"))


def test_a_page_that_is_terminated_takes_its_runs_and_files_along(
    tiny_clip_folder: Path, small_video: Path, tmp_path: Path
):
    from gradio_client import Client

    names = ["--model", f"local-dir:{tiny_clip_folder}", "--captioner", "micro"]
    with command(tmp_path, *names, "--videos", str(small_video.parent)) as (process, url):
        client = Client(url, verbose=False, httpx_kwargs={"timeout": HANG})
        client.predict("folder", [], api_name="/label")
        wait_for(lambda: client.predict(api_name="/label_progress")["state"] == "running")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 0
        assert not list(tmp_path.glob("zsvg-demo-*"))
        process.communicate(timeout=HANG)  # stderr ends with the last run, which could still write
    assert not list(tmp_path.glob("zsvg-demo-*"))


class TestJobs:
    """Runs in processes of their own; `folder` has their work."""

    def job(self, folder: Path, turns: Any, tiny_clip_folder: Path, video: Path) -> Any:
        return jobs.Job(
            {
                "task": "label",
                "folder": str(folder),
                "samples": None,
                "videos": {"small": str(video)},
                "backbone": f"local-dir:{tiny_clip_folder}",
                "captioner": "micro",
                "device": "cpu",
                "fps": 2.0,
                "framing": "crop",
                "cache": str(folder / "features"),
            },
            turns,
        )

    def test_only_so_many_run_and_wait(
        self, tmp_path: Path, tiny_clip_folder: Path, small_video: Path
    ):
        turns = jobs.Turns(running=1, waiting=1)
        assert turns.free.acquire(timeout=1.0)  # somebody else's long run
        waiting = [
            self.job(tmp_path / str(n), turns, tiny_clip_folder, small_video) for n in (1, 2)
        ]
        with pytest.raises(zsvg.ZsvgError, match="enough to do for others"):
            self.job(tmp_path / "3", turns, tiny_clip_folder, small_video)
        assert [job.look().state for job in waiting] == ["waiting", "waiting"]
        for job in waiting:
            job.stop()
            job.wait(HANG)
        assert [job.look().state for job in waiting] == ["stopped", "stopped"]
        turns.enter()  # their places are free again

    def test_a_run_that_nobody_watches_stops(
        self,
        tmp_path: Path,
        tiny_clip_folder: Path,
        small_video: Path,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(jobs, "UNWATCHED", 0.3)
        turns = jobs.Turns(running=1, waiting=0)
        job = self.job(tmp_path / "work", turns, tiny_clip_folder, small_video)
        job.wait(HANG)
        assert job.look().state == "stopped"
        turns.enter()

    def test_a_failure_is_one_line(self, tmp_path: Path, tiny_clip_folder: Path, small_video: Path):
        turns = jobs.Turns(running=1, waiting=0)
        job = self.job(tmp_path / "work", turns, tmp_path / "nothing", small_video)
        wait_for(lambda: job.look().over)
        assert job.look().state == "failed"
        assert "nothing" in job.look().error
        assert "\n" not in job.look().error

    def test_a_worker_ends_with_its_page(self, tmp_path: Path):
        work = tmp_path / "work.json"
        work.write_text(json.dumps({"task": "label", "folder": str(tmp_path), "samples": None,
                                    "videos": {}, "backbone": "micro"}))  # fmt: skip
        script = shipped("demo") / "worker.py"
        with started(script, work, stdin=PIPE, stdout=subprocess.DEVNULL) as worker:
            worker.stdin.close()
            assert worker.wait(HANG) == 3
