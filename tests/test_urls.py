"""Videos, records and libraries behind URLs: S3 (a moto server), a web server, and `file://`."""

from __future__ import annotations

import base64
import json
import logging
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import coloured_frames, encode_video

from zsvg.cli.app import app
from zsvg.cli.places import as_places
from zsvg.errors import VideoError, ZsvgError
from zsvg.features.from_files import FeatureFiles
from zsvg.files import sha256_file, write_text
from zsvg.grounding.writers import write_moments
from zsvg.places import patience, ranges
from zsvg.places.patience import MissingError, RemoteError, without_secrets
from zsvg.places.urls import Url, local, met, place_of
from zsvg.records import Prediction, read_annotations
from zsvg.video import hashes
from zsvg.video.clock import timeline
from zsvg.video.finding import find_videos
from zsvg.video.hashes import video_hash
from zsvg.video.sampling import load_frames_at

BUCKET = "kitchen"


class Store:
    """A bucket, and what was asked of its server."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked: list[str] = []

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def read(self) -> list[str]:
        """Return which objects were read since the last call."""
        found = [re.match(r"GET /\w+/(\S+?)(\?\S*)? HTTP", line) for line in self.asked]
        self.asked.clear()
        return sorted({match[1] for match in found if match})


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    server_of = pytest.importorskip("moto.server").ThreadedMotoServer
    pytest.importorskip("s3fs")
    import boto3

    server = server_of(ip_address="127.0.0.1", port=0)
    with pytest.MonkeyPatch.context() as patch:
        log = logging.getLogger("werkzeug")
        patch.setattr(log, "propagate", False)
        server.start()
        for name, value in {
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
            "AWS_ACCESS_KEY_ID": "KEYOFTHETEST",
            "AWS_SECRET_ACCESS_KEY": "SECRETOFTHETEST",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        made = Store(client)

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                asked = re.search(r"[A-Z]+ /\S* HTTP", record.getMessage())
                made.asked.append(asked[0] if asked else "")

        patch.setattr(log, "handlers", [Lines()])
        patch.setattr(log, "level", logging.INFO)
        yield made
        server.stop()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos in it, one of them deeper."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "cam").mkdir()
    encode_video(folder / "first film.mp4", coloured_frames(40))
    encode_video(folder / "cam" / "second.mkv", coloured_frames(60)[::-1])
    (folder / "cam" / "second.en.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nred bar\n")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def bucket(store: Store, films: Path, request: pytest.FixtureRequest) -> str:
    """The same folder in the bucket, under a prefix of the test's own."""
    prefix = request.node.name
    for file in films.rglob("*"):
        if file.is_file():
            store.put(f"{prefix}/{file.relative_to(films).as_posix()}", file.read_bytes())
    store.asked.clear()
    return f"s3://{BUCKET}/{prefix}"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost connections are tried again without a pause, and no block is left of other tests."""
    monkeypatch.setattr(patience, "WAITS", (0.0, 0.0, 0.0))
    ranges._blocks.clear()


class Web:
    """A web server of some files.

    Attributes:
        files: Path -> content.
        parts: Whether it knows range requests.
        lose: How many of the next answers break off, after half of what they promise.
        token: What the query has to be; None: anything.
        user: What Basic authentication has to be; None: nothing.
        asked: (method, path, range) of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.parts = True
        self.lose = 0
        self.token: str | None = None
        self.user: str | None = None
        self.asked: list[tuple[str, str, str]] = []


@pytest.fixture
def web() -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            path, _, query = self.path.partition("?")
            wanted = self.headers.get("Range", "")
            state.asked.append((self.command, path, wanted))
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            allowed = state.token in (None, query) and (
                state.user is None or base64.b64decode(given).decode() == state.user
            )
            content = state.files.get(path) if allowed else b""
            status = 200 if content is not None and allowed else 404 if allowed else 403
            data, more = content or b"", {}
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
            if state.parts and found and status == 200:
                start, end = int(found[1]), min(int(found[2]), len(data) - 1)
                more["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
                data, status = data[start : end + 1], 206
            self.send_response(status)
            kind = "text/html" if path.endswith("/") else "video/mp4"
            more |= {"Content-Length": str(len(data)), "Content-Type": kind, "ETag": '"1"'}
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            if body and state.lose and data:
                state.lose -= 1
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


def test_text_is_a_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert place_of("videos/a.mp4") == Path("videos/a.mp4")
    assert place_of("C://a.mp4") == Path("C://a.mp4")  # a drive
    assert place_of("file:///videos/a%20b.mp4") == Path("/videos/a b.mp4")
    assert place_of("file://localhost/a.mp4") == Path("/a.mp4")
    url = place_of("S3://kitchen/cam%20/a?.b.MP4/")
    assert str(url) == "s3://kitchen/cam%20/a?.b.MP4"  # a key is no query
    assert (url.name, url.stem, url.suffix) == ("a?.b.MP4", "a?.b", ".MP4")
    assert place_of("https://host/my%20film.mp4?sig=1").name == "my film.mp4"
    for wrong, why in (
        ("file://host/a.mp4", "another machine"),
        ("nothing://x/a.mp4", "no kind of URL"),
        ("simplecache::s3://x/a.mp4", "no kind of URL"),
    ):
        with pytest.raises(RemoteError, match=why):
            place_of(wrong)
    with pytest.raises(TypeError):  # never "s3:/..."
        Path(url)
    with pytest.raises(ZsvgError, match=r"s3://b/f: features must lie on a disk"):
        FeatureFiles("s3://b/f")


def test_a_folder_of_objects_is_named_like_a_folder(bucket: str, films: Path):
    found, same = find_videos(bucket), find_videos(films)
    assert list(found) == list(same) == ["cam/second", "first film"]
    assert str(found["cam/second"]) == f"{bucket}/cam/second.mkv"
    assert list(find_videos(f"{bucket}/*.mp4")) == ["first film"]
    assert list(find_videos(f"{bucket}/c*/")) == ["second"]
    assert list(find_videos(f"{bucket}/first film.mp4")) == ["first film"]
    both = find_videos(bucket, films)
    assert len(both) == 4
    assert not both.unusable
    assert list(find_videos(films.as_uri())) == list(same)
    for wrong in (f"{bucket}/nothing", "s3://nobody/videos", f"{bucket}/*.avi"):
        with pytest.raises(VideoError, match=re.escape(wrong)):
            find_videos(wrong)


def test_times_and_pictures_are_those_of_the_file(bucket: str, films: Path):
    for vid, file in find_videos(films).items():
        url = find_videos(bucket)[vid]
        assert timeline(url) == timeline(file)
        times = [3.1, 0.2, 2.0]
        assert np.array_equal(load_frames_at(url, times, 32), load_frames_at(file, times, 32))
        assert sha256_file(url) == sha256_file(file)


LABEL = ("--backbone", "micro", "--form", "features")


def test_labels_are_those_of_the_folder_and_only_what_changed_is_read(
    store: Store, bucket: str, films: Path, tmp_path: Path, run_zsvg: Any
):
    def labels(videos: str | Path, name: str) -> bytes:
        cache, output = tmp_path / f"{name}-cache", tmp_path / f"{name}.jsonl"
        hashes._tables.clear()  # as another process would begin
        ranges._blocks.clear()
        status, _, error = run_zsvg("pseudo-label", videos, *LABEL, "--cache", cache, "-o", output)
        assert status == 0, error
        return output.read_bytes()

    folder = tmp_path / "films"
    shutil.copytree(films, folder)
    expected = labels(folder, "folder")
    assert len(expected.splitlines()) > 2
    assert labels(folder.as_uri(), "file") == expected
    assert labels(bucket, "s3") == expected
    key = bucket.removeprefix(f"s3://{BUCKET}/")
    assert len(store.read()) == 2
    assert labels(bucket, "s3") == expected
    assert store.read() == []

    changed = encode_video(folder / "first film.mp4", coloured_frames(50)[::-1])
    store.put(f"{key}/first film.mp4", changed.read_bytes())
    store.read()
    relabelled = labels(bucket, "s3")
    assert relabelled != expected
    assert store.read() == [f"{key}/first%20film.mp4"]
    assert labels(folder, "anew") == relabelled


def test_hashes_are_remembered_by_url_etag_and_size(store: Store, tmp_path: Path):
    url = store.put("remembered/a.mp4", b"one")
    first = video_hash(url, tmp_path)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    name, size, etag, content = json.loads((tmp_path / hashes.FILE).read_text())
    assert (name, size, content) == (url, 3, first)
    assert etag.strip('"') == "f97c5d29941bfb1b2fdab0874906ab82"  # of S3: the MD5 of "one"
    store.read()
    hashes._tables.clear()
    assert video_hash(url, tmp_path) == first
    assert store.read() == []
    store.put("remembered/a.mp4", b"two")
    assert video_hash(url, tmp_path) != first
    hashes.forget(tmp_path)
    store.read()
    ranges._blocks.clear()
    video_hash(url, tmp_path)
    assert store.read() == ["remembered/a.mp4"]


def test_an_object_that_changes_on_the_way_is_no_mixture(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranges, "BLOCK", 4)
    url = place_of(store.put("changing/a.mp4", b"aaaabbbb"))
    with url.open() as file:
        assert file.raw.read(4) == b"aaaa"
        store.put("changing/a.mp4", b"ccccdddd")
        with pytest.raises(RemoteError, match=r"a\.mp4: changed since it was looked at"):
            file.raw.read(4)
    assert find_videos(str(url))["a"].read_bytes() == b"ccccdddd"


def test_only_the_parts_that_are_needed_are_fetched(
    web: Any, films: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranges, "BLOCK", 20_000)
    content = (films / "first film.mp4").read_bytes()
    # Between the pictures and their index lies what no player looks at.
    place, size = content.index(b"moov") - 4, 2_000_000
    padding = size.to_bytes(4, "big") + b"free" + bytes(size - 8)
    web.files["/a.mp4"] = content[:place] + padding + content[place:]
    assert timeline(f"{web.url}/a.mp4") == timeline(films / "first film.mp4")
    fetched = [part for method, _, part in web.asked if method == "GET"]
    assert all(fetched)
    assert 2 <= len(fetched) <= 10  # of 101 blocks


def test_a_lost_connection_is_tried_again(
    web: Any, films: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(ranges, "BLOCK", 2000)
    file = films / "cam" / "second.mkv"
    web.files["/a.mkv"] = file.read_bytes()
    expected = load_frames_at(file, [0.5, 4.0], None)
    web.lose = 3
    with caplog.at_level("INFO", "zsvg"):
        assert np.array_equal(load_frames_at(f"{web.url}/a.mkv", [0.5, 4.0], None), expected)
    assert web.lose == 0
    assert caplog.text.count("once more in") == 3


def test_a_connection_that_stays_lost_is_the_error_of_one_video(
    web: Any, films: Path, tmp_path: Path, run_zsvg: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranges, "BLOCK", 2000)
    for name in ("a", "b"):
        web.files[f"/{name}.mp4"] = (films / "first film.mp4").read_bytes()
    whole = RangeFileThatBreaks(monkeypatch, "/a.mp4", after=2)
    output = tmp_path / "labels.jsonl"
    status, _, error = run_zsvg(
        "pseudo-label", f"{web.url}/a.mp4", f"{web.url}/b.mp4", *LABEL, "--allow-truncated",
        "--cache", tmp_path / "cache", "-o", output,
    )  # fmt: skip
    assert status == 1
    assert whole.broken
    errors = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {web.url}/a.mp4: the connection was lost 4 times")
    assert {label.vid for label in read_annotations(output)} == {"b"}


class RangeFileThatBreaks:
    """Lets the connection to one file break for good after some blocks were fetched."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, after: int) -> None:
        self.broken = False
        fetch = ranges.RangeFile._fetch
        count = 0

        def breaking(file: Any, start: int) -> bytes:
            nonlocal count
            if file.name.endswith(name):
                count += 1
                if count > after:
                    self.broken = True
                    raise ConnectionResetError("reset by peer")
            return fetch(file, start)

        patch.setattr(ranges.RangeFile, "_fetch", breaking)


@pytest.mark.parametrize("name", ["first film.mp4", "cam/second.mkv"])
def test_wherever_a_connection_is_lost_no_part_passes_for_the_whole(
    web: Any, films: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
):
    monkeypatch.setattr(ranges, "BLOCK", 2000)
    web.files["/a.mp4"] = (films / name).read_bytes()
    blocks = -(-len(web.files["/a.mp4"]) // 2000)
    for after in range(blocks):
        ranges._blocks.clear()
        with monkeypatch.context() as patch:
            broken = RangeFileThatBreaks(patch, "/a.mp4", after)
            told = ""
            try:
                load_frames_at(f"{web.url}/a.mp4", np.arange(0, 7, 0.1), 8, allow_truncated=True)
            except RemoteError as error:
                told = str(error)
            assert ("reset by peer" in told) == broken.broken
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_without_parts_or_without_the_file_is_told(
    web: Any, films: Path, monkeypatch: pytest.MonkeyPatch
):
    web.files["/a.mp4"] = (films / "first film.mp4").read_bytes()
    web.files["/list/"] = b"<a href='a.mp4'>a</a>"
    with pytest.raises(VideoError, match="list no folders"):
        find_videos(f"{web.url}/list/?")
    with pytest.raises(VideoError, match=r"nothing\.mp4: no such file"):
        find_videos(f"{web.url}/nothing.mp4")
    monkeypatch.setattr(ranges, "BLOCK", 2000)
    web.parts = False
    with pytest.raises(RemoteError, match=r"a\.mp4: its server gives no parts"):
        sha256_file(f"{web.url}/a.mp4")


def test_secrets_are_shown_and_written_nowhere(
    web: Any, films: Path, tmp_path: Path, run_zsvg: Any
):
    secrets = ("SESAME", "OPENUP", "amelie")
    web.files["/a.mp4"] = (films / "first film.mp4").read_bytes()
    web.token, web.user = "X-Sig=SESAME&x=1", "amelie:OPENUP"
    address = web.url.replace("://", "://amelie:OPENUP@") + "/a.mp4?X-Sig=SESAME&x=1"
    assert (place_of(address).parent / "a.mp4").address == address  # as libraries ask for it
    for form in ("jsonl", "html", "otio"):
        status, shown, error = run_zsvg(
            "ground", address, "a red bar", "--model", "micro", "-vv", "--cut", tmp_path / "clips",
            "--cache", tmp_path / "cache", "-o", tmp_path / f"out.{form}",
        )  # fmt: skip
        assert status == 0, error
        assert not any(secret in shown + error for secret in secrets)
    assert list((tmp_path / "clips").glob("*.mp4"))
    assert json.loads((tmp_path / "out.jsonl").read_text())["path"] == f"{web.url}/a.mp4"
    web.token = "another"
    status, shown, error = run_zsvg("features", address, "--backbone", "micro", "-vv")
    assert status == 1
    assert "403" in error
    assert not any(secret in shown + error for secret in secrets)
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or not any(s.encode() in file.read_bytes() for s in secrets), file
    for line in (("features", "v", "--backbone", address), ("search", address, "x")):
        status, shown, error = run_zsvg(*line)
        assert status == 1
        assert not any(secret in shown + error for secret in secrets)


def test_credentials_are_written_nowhere(bucket: str, tmp_path: Path, run_zsvg: Any):
    status, shown, error = run_zsvg(
        "pseudo-label", bucket, *LABEL, "--cache", tmp_path / "cache", "-o", tmp_path / "l.jsonl",
        "-vv",
    )  # fmt: skip
    assert status == 0
    assert "OFTHETEST" not in shown + error
    assert all(f.is_dir() or b"OFTHETEST" not in f.read_bytes() for f in tmp_path.rglob("*"))


def test_what_is_no_secret_stays():
    for text in ("what? https://host/a.mp4 and", "is it 3/4? yes", "s3://kitchen/a?.mp4: gone"):
        assert without_secrets(text) == text
    assert without_secrets("'https://a:b@c@h/x.mp4?sig=1': no") == "'https://h/x.mp4': no"
    assert str(place_of("sftp://a:b@c@host/x@y.mp4")) == "sftp://host/x@y.mp4"
    assert str(place_of("https://a@host/x.mp4?sig=(1)#2")) == "https://host/x.mp4"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RemoteError, match=r"^gs://kitchen/a\.mp4: .*gcsfs.*zsvg\[remote\]"):
        find_videos("gs://kitchen/a.mp4")


def test_a_url_in_a_file_of_others_is_not_fetched(web: Any, films: Path, tmp_path: Path):
    pytest.importorskip("opentimelineio")
    web.files["/a.mp4"] = (films / "first film.mp4").read_bytes()
    path = f"{web.url}/a.mp4"
    record = Prediction(
        qid=1, query="a bar", vid=path, pred_relevant_windows=((0.0, 1.0, 1.0),),
        extra={"path": path},
    )  # fmt: skip
    assert met(path) == Path(path)
    with pytest.raises(VideoError, match="no such file"):
        write_moments(tmp_path / "out.otio", [record])
    assert web.asked == []


def test_records_are_read_and_written_there(
    store: Store, films: Path, tmp_path: Path, run_zsvg: Any
):
    truth = {"qid": 1, "query": "a bar", "vid": "first film", "duration": 4.0}
    line = json.dumps({**truth, "relevant_windows": [[0.0, 4.0]]}) + "\n"
    url = store.put("records/truth.jsonl", line.encode())
    answers = f"s3://{BUCKET}/records/answers.jsonl"
    run = run_zsvg("baseline", "whole", url, "-o", answers)
    assert run[0] == 0, run[2]
    assert f"wrote 1 answers to {answers}" in run[2]
    numbers = f"s3://{BUCKET}/records/numbers.json"
    status, _, error = run_zsvg("evaluate", answers, url, "-o", numbers)
    assert status == 0, error
    assert json.loads(store.get("records/numbers.json"))["mIoU"] == 1.0
    assert run_zsvg("baseline", "whole", url, "-o", "https://host/answers.jsonl")[2].startswith(
        "error: https://host/answers.jsonl: nothing is written to web servers"
    )
    with pytest.raises(MissingError, match="no such file"):
        read_annotations(f"s3://{BUCKET}/records/none.jsonl")
    with pytest.raises(RemoteError):
        write_text("s3://nobody/x.txt", "x")


def test_a_library_of_a_bucket_in_a_bucket(
    store: Store, bucket: str, tmp_path: Path, run_zsvg: Any
):
    pytest.importorskip("lancedb")
    library = f"s3://{BUCKET}/library"
    for place in (tmp_path / "library", library):
        status, _, error = run_zsvg("index", bucket, "-o", place, "--model", "micro")
        assert status == 0, error
        assert "2 new" in error
        assert "1 with words" in error  # subtitles beside it
    key = bucket.removeprefix(f"s3://{BUCKET}/")
    store.read()
    for place in (tmp_path / "library", library):
        status, _, error = run_zsvg("index", "-o", place)
        assert status == 0, error
        assert "2 unchanged" in error
    assert not [name for name in store.read() if name.startswith(key)]
    found = []
    for place in (tmp_path / "library", library):
        status, shown, error = run_zsvg("search", place, "a red bar", "--format", "jsonl")
        assert status == 0, error
        found.append(shown)
    assert found[0] == found[1]
    assert f'"path": "{bucket}/cam/second.mkv"' in found[0]
    below = run_zsvg("search", library, "a bar", "--folder", f"{bucket}/cam", "--format", "jsonl")
    assert [json.loads(line)["vid"] for line in below[1].splitlines()] == ["cam/second"]
    store.client.delete_object(Bucket=BUCKET, Key=f"{key}/first film.mp4")
    assert "1 vanished" in run_zsvg("index", "-o", library)[2]
    assert "1 videos forgotten" in run_zsvg("library", "prune", library)[2]
    assert run_zsvg("library", "check", library)[0] == 0
    status, _, error = run_zsvg("index", bucket, "-o", library, "--watch")
    assert status == 1
    assert "--watch follows folders on a disk" in error


def test_what_could_not_be_reached_is_tried_again_by_the_next_index(
    bucket: str, tmp_path: Path, run_zsvg: Any, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("lancedb")
    library = tmp_path / "library"
    with monkeypatch.context() as patch:
        RangeFileThatBreaks(patch, "second.mkv", after=0)
        status, _, error = run_zsvg("index", bucket, "-o", library, "--model", "micro")
    assert status == 1
    assert "1 new, 1 not usable" in error
    status, _, error = run_zsvg("index", "-o", library)
    assert status == 0, error
    assert "1 new, 1 unchanged" in error


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of all that can be run."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        for part, child in getattr(command, "commands", {"": command}).items():
            yield f"{name} {part}".strip(), child


def test_no_option_takes_a_url_for_a_path():
    """Whatever is a path in some command comes as text, and becomes a URL or an error."""
    seen = 0
    for name, command in commands():
        inner = command.callback
        for cell in inner.__closure__ or ():
            if callable(cell.cell_contents) and hasattr(cell.cell_contents, "__wrapped__"):
                inner = cell.cell_contents
        paths = inner.__closure__[inner.__code__.co_freevars.index("paths")].cell_contents
        for option, shown in paths.items():
            seen += 1
            if shown:
                with pytest.raises(ZsvgError, match=rf"s3://kitchen/x: what {shown} names must"):
                    as_places({option: "s3://kitchen/x"}, paths)
            else:
                place = as_places({option: "s3://kitchen/x"}, paths)[option]
                assert isinstance(place, Url), (name, option)
            assert as_places({option: "file:///x"}, paths)[option] == Path("/x")
    assert seen > 60


NOWHERE = "s3://nobody/x"
REFUSED = [
    f"features {NOWHERE} --backbone micro",
    f"features . --backbone {NOWHERE}",
    f"features . --backbone local-dir:{NOWHERE}",
    f"pseudo-label {NOWHERE} --backbone micro --captioner micro",
    f"pseudo-label v --backbone micro --captioner {NOWHERE}",
    f"pseudo-label v --backbone micro --form features --cache {NOWHERE}",
    f"pseudo-label --features {NOWHERE} --backbone micro --form features",
    f"pseudo-label v --backbone micro --form retrieved --sentences {NOWHERE}",
    f"tune {NOWHERE} --videos v --backbone micro",
    f"tune l.jsonl --videos {NOWHERE} --backbone micro",
    f"tune l.jsonl --videos v --backbone micro --recipe {NOWHERE}.yaml",
    f"tune l.jsonl --videos v --backbone micro -o {NOWHERE}",
    f"ground {NOWHERE} sentence --model micro",
    f"ground v {NOWHERE} sentence --model micro",
    f"ground v sentence --model {NOWHERE}",
    f"ground v sentence --model micro --templates {NOWHERE}.yaml",
    f"ground v sentence --model micro --cut {NOWHERE}",
    f"predict {NOWHERE} --videos v --model micro",
    f"predict l.jsonl --videos {NOWHERE} --model micro",
    f"predict l.jsonl --videos v --model {NOWHERE}",
    f"index {NOWHERE} --model micro",
    f"index v -o lib --model {NOWHERE}",
    f"search {NOWHERE} sentence",
    f"serve {NOWHERE}",
    f"library info {NOWHERE}",
    f"evaluate {NOWHERE} l.jsonl",
    f"evaluate l.jsonl {NOWHERE}",
    f"audit {NOWHERE} l.jsonl",
    f"inspect {NOWHERE}",
    f"inspect l.jsonl --videos {NOWHERE}",
    f"convert qvhighlights {NOWHERE}",
    f"probe l.jsonl --model micro --videos {NOWHERE}",
    f"compare {NOWHERE} l.jsonl --videos v --backbone micro",
    f"baseline whole {NOWHERE}",
    f"prompts show {NOWHERE}",
    f"microworld --domain chalk -o {NOWHERE}",
    f"quickstart -o {NOWHERE}",
    f"demo --library {NOWHERE}",
    f"cache size --cache {NOWHERE}",
]


@pytest.mark.parametrize("line", REFUSED)
def test_no_command_makes_a_local_path_of_a_url(
    line: str, store: Store, films: Path, tmp_path: Path, run_zsvg: Any,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").symlink_to(films)
    record = {"qid": 1, "query": "a bar", "vid": "first film", "duration": 4.0}
    (tmp_path / "l.jsonl").write_text(json.dumps({**record, "relevant_windows": [[0.0, 4.0]]}))
    status, _, error = run_zsvg(*line.split())
    assert status == 1
    assert len(error.splitlines()) == 1, error
    assert "s3://nobody/x" in error
    assert "internal error" not in error
    assert {file.name for file in tmp_path.iterdir()} == {"v", "l.jsonl"}


def test_local_says_what_to_do():
    with pytest.raises(ZsvgError, match=r"^s3://b/m: a model must lie on a disk; copy it there"):
        local("s3://b/m", "a model")
