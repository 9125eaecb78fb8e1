"""Captions from a model behind an endpoint, asked over real HTTP: what is sent, kept and survived.

The server is a small one of our own in a thread. Its answers depend on the question alone, so that
labels can be compared between runs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HANG, encode_video, environment, run_python, started, wait_for
from PIL import Image
from test_captioner import WORDS, write_tiny_llava

pytest.importorskip("openai", reason="the extra `endpoint`")

from zsvg.backbones import chat
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.endpoint import Endpoint
from zsvg.backbones.names import check_captioner, endpoint_of
from zsvg.errors import BackboneError, EndpointError
from zsvg.features.cache import cache_content
from zsvg.features.processes import Processes
from zsvg.label.asking import look
from zsvg.label.instructions import load_instructions
from zsvg.label.parts import read_part
from zsvg.label.run import LabelReport, default_options, pseudo_label
from zsvg.records import read_annotations

SECRET = "sk-secret-0123456789abcdef"
Reply = tuple[int, dict[str, str], bytes]


def said(text: str, **more: Any) -> Reply:
    """What a server replies that says `text`."""
    choice = {"index": 0, "finish_reason": "stop"}
    choice["message"] = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return plain(json.dumps({**answer, "choices": [choice], **more}))


def plain(text: str, status: int = 200, kind: str = "application/json", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": kind, **named}, text.encode()


def text_of(body: dict[str, Any]) -> str:
    return next(p["text"] for p in body["messages"][0]["content"] if p["type"] == "text")


def usual(body: dict[str, Any]) -> Reply:
    """A sentence that only the question decides."""
    mark = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
    return said(f"a red circle moves {int(mark[:6], 16)} times")


class Server:
    """What was asked of a server, and what it replies."""

    def __init__(self, reply: Callable[[dict[str, Any]], Reply] = usual) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.asked.append(body)
                    server.headers.append(dict(self.headers))
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                try:
                    status, headers, content = server.reply(body)
                finally:
                    with server.lock:
                        server.in_flight -= 1
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # a client that has gone
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.name = f"openai:org/model@{self.url}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def seconds(self) -> list[str]:
        """The seconds that are named in each question."""
        return [", ".join(re.findall(r"\d+\.\d", text_of(body))) for body in self.asked]


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Reply] = usual) -> Iterator[Server]:
    server = Server(reply)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no key of whoever runs the tests, and a single repetition, after half a second."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(chat, "RETRIES", 1)


def events(count: int, frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Grey frames, lighter with time, and their seconds: 0, 1, 2 ... through all events."""
    times = np.arange(count * frames, dtype=float).reshape(count, frames)
    grey = (5 * times).astype(np.uint8)[..., None, None, None]
    return np.broadcast_to(grey, (count, frames, 16, 16, 3)).copy(), times


def but_for(event: int, bad: Callable[[], Reply], frames: int = 4):
    """A server that replies something else about one event of `events`."""

    def reply(body: dict[str, Any]) -> Reply:
        return bad() if f" {event * frames}.0" in text_of(body) else usual(body)

    return reply


class TestQuestions:
    def test_frames_are_in_order_with_their_seconds(self):
        with serving() as server:
            texts, lost = Endpoint(server.name).describe(*events(2))
        assert lost == {}
        assert all(len(own) == 1 and own[0].startswith("a red circle moves") for own in texts)
        assert sorted(server.seconds()) == ["0.0, 1.0, 2.0, 3.0", "4.0, 5.0, 6.0, 7.0"]
        for body in server.asked:
            assert body["model"] == "org/model"
            assert (body["temperature"], body["max_tokens"]) == (0.0, 100)
            parts = body["messages"][0]["content"]
            assert [part["type"] for part in parts] == ["image_url"] * 4 + ["text"]
            first = float(re.search(r"at (\d+\.\d)", parts[-1]["text"])[1])
            for index, part in enumerate(parts[:4]):
                kind, data = part["image_url"]["url"].split(",")
                assert kind == "data:image/jpeg;base64"
                shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float)
                assert shown.shape == (16, 16, 3)
                assert abs(shown.mean() - 5 * (first + index)) < 2

    def test_one_frame_is_spoken_of_as_one(self):
        with serving() as server:
            Endpoint(server.name).describe(*events(1, frames=1))
        assert text_of(server.asked[0]).startswith("The picture is the frame of a video at 0.0 s.")

    def test_samples_are_questions_of_their_own_seeds(self):
        with serving(lambda body: said(f"a cat {body['seed']}")) as server:
            endpoint = Endpoint(server.name)
            texts, _ = endpoint.describe(*events(1), samples=3, seed=5)
            again, _ = endpoint.describe(*events(1), samples=3, seed=5)
            other, _ = endpoint.describe(*events(1), samples=3, seed=6)
        assert len(set(texts[0])) == 3
        assert again == texts
        assert not set(other[0]) & set(texts[0])
        assert {(body["temperature"], body["top_p"]) for body in server.asked} == {(1.0, 0.9)}

    def test_not_more_requests_than_wanted_are_in_flight(self):
        pairs = threading.Barrier(2)  # nobody is answered alone: two do come at a time

        def together(body: dict[str, Any]) -> Reply:
            pairs.wait(HANG / 2)
            time.sleep(0.3)  # in which a third would come
            return usual(body)

        with serving(together) as server:
            texts, lost = Endpoint(server.name, requests=2).describe(*events(8))
        assert (len(texts), lost) == (8, {})
        assert server.most_in_flight == 2
        with pytest.raises(ValueError, match="requests must be at least 1, got 0"):
            Endpoint(server.name, requests=0)

    def test_where_a_loop_runs_already(self):
        async def notebook() -> Any:
            return Endpoint(server.name).describe(*events(1))

        with serving() as server:
            assert asyncio.run(notebook())[1] == {}

    def test_what_is_thought_aloud_is_no_answer(self):
        thinking = "<think>a dog?\nno</think>\n\n A cat  sits. "
        with serving(lambda _: said(thinking)) as server:
            assert Endpoint(server.name).describe(*events(1)) == ([["A cat sits."]], {})

    def test_fields_that_a_server_refuses_are_left_out(self, caplog):
        def picky(body: dict[str, Any]) -> Reply:
            if "temperature" in body:
                return plain('{"detail": "Unsupported fields in the request: temperature"}', 422)
            if "max_tokens" in body:
                error = {"message": "Unsupported parameter: 'max_tokens'; use another"}
                return plain(json.dumps({"error": error}), 400)
            return usual(body)

        with serving(picky) as server:
            endpoint = Endpoint(server.name, requests=1)
            assert endpoint.describe(*events(3))[1] == {}
        assert len(server.asked) == 5
        assert caplog.text.count("it is asked without") == 2
        assert endpoint.chat.told["asked"] == 3


class TestFaults:
    @pytest.mark.parametrize(
        "busy",
        [
            lambda: plain("{}", 429),
            lambda: plain('{"error": {"message": "out of memory"}}', 500),
            lambda: plain("<html>", 503, "text/html"),
            lambda: plain('{"id": ', Content_Length="500"),  # half an answer
        ],
    )
    def test_a_request_that_failed_is_repeated(self, busy):
        replies = iter([busy])

        def reply(body: dict[str, Any]) -> Reply:
            return next(replies, lambda: usual(body))()

        with serving(reply) as server:
            texts, lost = Endpoint(server.name).describe(*events(1))
        assert (len(texts[0]), lost) == (1, {})
        assert len(server.asked) == 2

    def test_a_busy_server_is_asked_after_the_time_that_it_names(self):
        came: list[float] = []

        def busy(body: dict[str, Any]) -> Reply:
            came.append(time.monotonic())
            return usual(body) if len(came) > 1 else plain("{}", 429, Retry_After="1.5")

        with serving(busy) as server:
            assert Endpoint(server.name).describe(*events(1))[1] == {}
        first, second = came
        assert second - first >= 1.5  # the client's own first wait is half a second

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (lambda: plain('{"choices": [{"mess'), "no JSON"),
            (lambda: plain("[]"), "without a text"),
            (lambda: plain('"nonsense"'), "without a text"),
            (lambda: plain("nonsense", kind="text/plain"), "without a text"),
            (lambda: plain("{}"), "without a text"),
            (lambda: plain('{"choices": "x"}'), "without a text"),
            (lambda: plain('{"choices": []}'), "without a text"),
            (lambda: plain('{"choices": [{"message": {"content": null}}]}'), "without a text"),
            (lambda: plain('{"choices": [{"message": {"content": {"a": 1}}}]}'), "without a text"),
            (lambda: said(" \n"), "empty answer"),
            (lambda: plain('{"error": "no such picture"}', 400), "no such picture"),
            (lambda: plain('{"error": "out of memory"}', 500), "out of memory"),
            (lambda: plain("{}", 429), "429"),
            (lambda: plain('{"id": ', Content_Length="500"), "connection broke"),
        ],
    )
    def test_a_bad_answer_costs_one_event(self, bad, why, monkeypatch, tmp_path):
        monkeypatch.setattr(chat, "RETRIES", 0)
        with serving(but_for(1, bad)) as server:
            endpoint = Endpoint(server.name, cache=tmp_path)
            texts, lost = endpoint.describe(*events(3))
            assert [len(own) for own in texts] == [1, 0, 1]
            assert set(lost) == {1}
            assert why in lost[1]
            assert "\n" not in lost[1]
            server.reply = usual
            texts, lost = endpoint.describe(*events(3))
        assert [len(own) for own in texts] == [1, 1, 1]
        assert lost == {}
        assert len(server.asked) == 4  # the lost one alone is asked again
        assert (endpoint.chat.told["lost"], endpoint.kept) == (1, 2)

    def test_silence_costs_one_event(self, monkeypatch):
        monkeypatch.setattr(chat, "RETRIES", 0)
        over = threading.Event()

        def silent(body: dict[str, Any]) -> Reply:
            over.wait(HANG)
            return usual(body)

        with serving(silent) as server:
            monkeypatch.setattr(chat, "TIMEOUT", 0.5)
            assert Endpoint(server.name).describe(*events(1)) == (
                [[]],
                {0: "no answer within 0.5 s"},
            )
            over.set()

    def test_a_server_that_never_answers_well_is_given_up(self, monkeypatch):
        monkeypatch.setattr(chat, "RETRIES", 0)
        monkeypatch.setattr(chat, "MOST_LOST", 3)
        with serving(lambda _: plain('{"error": "sick"}', 500)) as server:
            endpoint = Endpoint(server.name, requests=1)
            assert len(endpoint.describe(*events(2))[1]) == 2
            with pytest.raises(EndpointError, match=r"no answer to the last 3 questions .*sick"):
                endpoint.describe(*events(2))
        assert len(server.asked) == 3

    @pytest.mark.parametrize(
        ("status", "remedy"),
        [(401, "is $OPENAI_API_KEY the right key?"), (404, "check the model's name")],
    )
    def test_what_refuses_all_is_asked_once(self, status, remedy):
        with (
            serving(lambda _: plain('{"error": "no"}', status)) as server,
            pytest.raises(EndpointError) as refused,
        ):
            Endpoint(server.name, requests=1).describe(*events(9))
        assert remedy in str(refused.value)
        assert len(server.asked) == 1

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_no_redirect_is_followed(self, status, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        with serving() as other:
            place = f"{other.url}/chat/completions"
            with (
                serving(lambda _: plain("", status, Location=place)) as server,
                pytest.raises(EndpointError, match=f"redirects to {re.escape(place)}"),
            ):
                Endpoint(server.name).describe(*events(1))
            assert len(server.asked) == 1
        assert other.asked == []


class TestNames:
    def test_model_and_address(self):
        assert endpoint_of("openai:a/b@http://h:1/v1/") == ("a/b", "http://h:1/v1")
        assert endpoint_of("openai:@cf/llama@https://h.org/v1") == ("@cf/llama", "https://h.org/v1")
        assert endpoint_of("openai:m@http://[::1]:80/v1").host == "[::1]:80"
        assert endpoint_of("micro") is endpoint_of(None) is None

    @pytest.mark.parametrize(
        "rest", ["", "model", "@http://h/v1", "m@ftp://h", "m@http://", "m@http://h:port/v1"]
    )
    def test_others_are_refused(self, rest):
        with pytest.raises(BackboneError, match="is named openai:MODEL@URL, such as"):
            endpoint_of(f"openai:{rest}")

    @pytest.mark.parametrize("address", ["http://me:{}@h/v1", "http://h/v1?key={}"])
    def test_a_secret_in_an_address_is_not_repeated(self, address):
        with pytest.raises(BackboneError, match="OPENAI_API_KEY") as refused:
            endpoint_of(f"openai:m@{address.format(SECRET)}")
        assert SECRET not in str(refused.value)

    def test_only_labelling_asks_endpoints(self):
        with pytest.raises(BackboneError, match="is asked by `zsvg pseudo-label` alone"):
            check_captioner(f"openai:m@http://me:{SECRET}@h/v1")

    def test_without_the_client(self, monkeypatch):
        monkeypatch.setattr(chat, "find_spec", lambda _: None)
        with pytest.raises(BackboneError, match=r"^openai:m: .*pip install 'zsvg\[endpoint\]'$"):
            Endpoint("openai:m@http://h/v1")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of three scenes, 6 s."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for number, name in enumerate("ab"):
        colours = np.random.default_rng(number).integers(0, 255, (3, 1, 6, 8, 3), np.uint8)
        scenes = colours.repeat(8, 2).repeat(8, 3).repeat(20, 1).reshape(60, 48, 64, 3)
        encode_video(folder / f"{name}.mp4", scenes)
    return folder


def line(videos: Path, server: Server | str, out: Path, *more: str | Path) -> list[str | Path]:
    name = server if isinstance(server, str) else server.name
    given = ["pseudo-label", videos, "--backbone", "micro", "--captioner", name, "--count", "4"]
    cache = ["--cache", out.parent / "cache", "--device", "cpu"]
    return [*given, "--min-score", "-1", *cache, "-o", out, *more]


class TestCommand:
    def test_labels_and_a_second_run_that_asks_nothing(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "out" / "pseudo.jsonl"
        with serving() as server:
            status, _, told = run_zsvg(*line(videos, server, out, "--requests", "2"))
            assert status == 0, told
            host = server.url[7:-3]
            first = told.splitlines()[0]
            assert first == f"org/model at {host} is sent at most 32 images in 8 requests"
            labels = read_annotations(out)
            assert {label.vid for label in labels} == {"a", "b"}
            assert all(label.query.startswith("a red circle moves") for label in labels)
            source = labels[0].extra["source"]
            assert source["captioner"] == server.name
            count = len(server.asked)
            assert 2 <= count <= 8
            assert len(set(server.seconds())) > 1
            assert all(body["messages"][0]["content"][3]["type"] == "image_url"
                       for body in server.asked)  # fmt: skip
            assert f"org/model at {host}: {count} answers, 0 more of earlier runs; " in told
            assert f"{100 * count:,} tokens in, {7 * count} out" in told
            assert server.most_in_flight <= 2
            before = out.read_bytes()
            for file in (tmp_path / "out" / "pseudo.jsonl.parts").iterdir():
                file.unlink()
            status, _, told = run_zsvg(*line(videos, server, out))
            assert (status, len(server.asked)) == (0, count)
            assert f"0 answers, {count} more of earlier runs" in told
            assert out.read_bytes() == before
        states = [file.state for file in cache_content(out.parent / "cache").files]
        assert states.count("answer") == count
        assert cache_content(out.parent / "cache").foreign == 0

    def test_the_key_goes_to_the_server_and_nowhere_else(
        self, videos, tmp_path, run_zsvg, monkeypatch
    ):
        """Not even where the server repeats it, in answers as in errors."""
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        monkeypatch.setattr(chat, "RETRIES", 0)
        calls = iter(range(1000))

        def indiscreet(body: dict[str, Any]) -> Reply:
            if next(calls) == 0:
                return plain(json.dumps({"error": f"{'x' * 270} Bearer {SECRET} is slow"}), 500)
            return said(f"a circle moves, says {SECRET} of {text_of(body)[-9:]}")

        out = tmp_path / "pseudo.jsonl"
        with serving(indiscreet) as server:
            status, shown, told = run_zsvg("-vv", *line(videos, server, out))
            server.reply = lambda _: plain(json.dumps({"error": f"{SECRET} is wrong"}), 401)
            refused, _, said_then = run_zsvg(*line(videos, server, out, "--view", "middle"))
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
        assert (status, refused) == (1, 1)
        assert "with the key of $OPENAI_API_KEY" in told
        assert "error: org/model at " in said_then
        assert "*** is wrong" in said_then
        assert "***" in out.read_text()
        everything = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert [path for path, data in everything.items() if SECRET[:12].encode() in data] == []
        assert SECRET[:12] not in shown + told + said_then

    def test_a_lost_event_is_named_and_asked_again_by_the_next_run(
        self, videos, tmp_path, run_zsvg, monkeypatch
    ):
        monkeypatch.setattr(chat, "RETRIES", 0)
        out, whole = tmp_path / "pseudo.jsonl", tmp_path / "whole" / "pseudo.jsonl"
        first: list[str] = []

        def forgetful(body: dict[str, Any]) -> Reply:
            with server.lock:
                first.append(text_of(body))
            return said("") if text_of(body) == first[0] else usual(body)

        with serving(forgetful) as server:
            status, _, told = run_zsvg(*line(videos, server, out, "--requests", "1"))
            lost = first.count(first[0])
            assert status == 1
            errors = [row for row in told.splitlines() if row.startswith("error: ")]
            assert len(errors) == lost
            assert re.fullmatch(r"error: a, \d+\.\d to \d+\.\d s: an empty answer", errors[0])
            assert f", {lost} lost" in told
            assert {label.vid for label in read_annotations(out)} == {"a", "b"}
            (part,) = [
                path for path in (tmp_path / "pseudo.jsonl.parts").glob("?" * 64 + ".json")
                if read_part(path) is None
            ][:1]  # fmt: skip
            assert len(read_part(part, lost=True)["lost"]) == 1
            server.reply = usual
            asked = len(server.asked)
            assert run_zsvg(*line(videos, server, out))[0] == 0
            assert len(server.asked) == asked + lost
            assert run_zsvg(*line(videos, server, whole))[0] == 0
        assert out.read_bytes() == whole.read_bytes()

    def test_a_server_that_is_killed_and_started_again(self, videos, tmp_path, run_zsvg):
        out, whole = tmp_path / "pseudo.jsonl", tmp_path / "whole" / "pseudo.jsonl"

        def dying(body: dict[str, Any]) -> Reply:
            if len(server.asked) == 3:
                server.http.shutdown()
                server.http.server_close()  # who comes later finds nobody
            return usual(body)

        server = Server(dying)
        status, _, told = run_zsvg(*line(videos, server, out, "--requests", "1"))
        assert status == 1
        assert not out.exists()
        error = told.splitlines()[-1]
        assert error.startswith(f"error: org/model at {server.url[7:-3]}: ")
        assert "cannot be reached" in error
        with serving() as again:
            status, _, told = run_zsvg(*line(videos, again, out))
            assert status == 0, told
            assert f"{len(again.asked)} answers, 3 more of earlier runs" in told
            asked = [json.dumps(body) for body in (*server.asked, *again.asked)]
            assert len(asked) == len(set(asked))  # nothing twice
            assert run_zsvg(*line(videos, again, whole))[0] == 0
        assert out.read_bytes() == whole.read_bytes()

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_it_can_be_stopped_while_a_server_is_silent(self, videos, tmp_path):
        over = threading.Event()

        def silent(body: dict[str, Any]) -> Reply:
            over.wait(HANG)
            return usual(body)

        with serving(silent) as server:
            command = line(videos, server, tmp_path / "pseudo.jsonl")
            with started("-m", "zsvg", *command, stderr=subprocess.DEVNULL) as process:
                wait_for(lambda: server.asked)
                process.send_signal(signal.SIGINT)
                assert process.wait(HANG) == 130
            over.set()

    def test_every_process_tells_what_was_lost(self, videos, tmp_path, monkeypatch):
        monkeypatch.setattr(chat, "RETRIES", 0)
        clip, barrier = load_backbone("micro", "cpu"), threading.Barrier(2)
        reports: list[LabelReport | None] = [None, None]

        def run(index: int) -> None:
            reports[index] = pseudo_label(
                videos,
                clip,
                Endpoint(server.name),
                options=default_options(min_score=-1.0, count=4),
                work_dir=tmp_path,
                processes=Processes(index, 2, barrier.wait),
            )

        with serving(lambda _: said("")) as server:
            threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(HANG)
            first, second = reports
        assert first == second
        assert first is not None
        assert set(first.lost) == {"a", "b"}
        assert sum(map(len, first.lost.values())) == len(server.asked)

    def test_dry_run_asks_nothing_and_counts(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        with serving() as server:
            host = server.url[7:-3]
            dry = ("--dry-run", "--price", "1/2")
            status, _, told = run_zsvg(*line(videos, server, out, *dry))
            assert status == 0, told
            assert server.asked == []
            assert list(tmp_path.iterdir()) == []
            # Two videos of four events, each with four frames.
            assert f"at most 8 requests with 32 images to org/model at {host}\n" in told
            tokens = re.search(r"about ([\d,]+) tokens in .* and ([\d,]+) out \(30 an", told)
            taken, given = (int(number.replace(",", "")) for number in tokens.groups())
            assert 32 * 256 + 8 * 30 < taken < 32 * 256 + 8 * 80
            assert given == 8 * 30
            assert f"about {(taken + 2 * given) / 1e6:.4f} at 1/2 a million tokens" in told
            more = (*dry, "--samples", "3", "--view", "ends")
            told = run_zsvg(*line(videos, server, out, *more))[2]
            assert "at most 24 requests with 48 images" in told
            assert run_zsvg(*line(videos, server, out))[0] == 0
            told = run_zsvg(*line(videos, server, out, *dry))[2]
        assert "2 are labelled already, 0 are left" in told
        assert "at most 0 requests with 0 images" in told

    def test_a_host_that_is_not_there_is_one_line(self, videos, tmp_path, run_zsvg):
        name = "openai:m@http://nobody.invalid:8000/v1"
        status, _, told = run_zsvg(*line(videos, name, tmp_path / "pseudo.jsonl"))
        assert status == 1
        errors = [row for row in told.splitlines() if "error" in row.lower()]
        assert len(errors) == 1
        assert errors[0].startswith("error: m at nobody.invalid:8000: nobody.invalid:8000 cannot")
        assert "Traceback" not in told

    def test_options_that_do_not_fit(self, videos, tmp_path, run_zsvg):
        out = tmp_path / "pseudo.jsonl"
        for more in (("--requests", "2"), ("--price", "1/2")):
            status, _, told = run_zsvg(*line(videos, "micro", out, *more))
            assert status == 1
            assert "are of a captioner behind an endpoint" in told
        name = "openai:m@http://h/v1"
        assert run_zsvg(*line(videos, name, out, "--price", "cheap"))[0] == 2
        assert run_zsvg(*line(videos, name, out, "--requests", "0"))[0] == 2
        status, _, told = run_zsvg(*line(videos, f"openai:m@http://me:{SECRET}@h/v1", out))
        assert (status, SECRET in told) == (1, False)


class Served:
    """`transformers serve` on a tiny random model."""

    def __init__(self, model: Path, port: int, log: Path) -> None:
        self.log = log.open("a")
        serve = ("-m", "transformers.cli.transformers", "serve", model, "--host", "127.0.0.1")
        command = [sys.executable, *map(str, serve), "--port", str(port), "--device", "cpu"]
        quiet = {"stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(command, env=environment(), **quiet)
        wait_for(lambda: self.ready(port))

    def ready(self, port: int) -> bool:
        assert self.process.poll() is None, Path(self.log.name).read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(HANG)
        self.log.close()


def test_transformers_serve_is_killed_and_started_again(tmp_path: Path):
    model = write_tiny_llava(tmp_path / "llava")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"openai:{model}@http://127.0.0.1:{port}/v1"
    served = Served(model, port, tmp_path / "log")
    try:
        endpoint = Endpoint(name, cache=tmp_path / "cache", requests=2)
        frames, times = events(4)
        first, lost = endpoint.describe(frames[:2], times[:2])
        assert lost == {}, (tmp_path / "log").read_text()
        served.kill()
        with pytest.raises(EndpointError, match="cannot be reached"):
            endpoint.describe(frames, times)
        served = Served(model, port, tmp_path / "log")
        again = Endpoint(name, cache=tmp_path / "cache")
        texts, lost = again.describe(frames, times)
        # It takes no `response_format` (5.24 ignores it, others refuse): words come as they come.
        looks, unseen = look(frames, times, "strip", again, load_instructions("rich"))
    finally:
        served.kill()
    assert lost == {}
    assert texts[:2] == first
    assert all(set(own.split()) <= {*WORDS, "USER", "ASSISTANT", ":"} for (own,) in texts)
    assert again.summary().startswith(f"{model} at 127.0.0.1:{port}: 6 answers, 2 more of earlier")
    assert again.chat.told["in"] > 0
    assert unseen == {}
    assert all(len(one.sentences) == 1 and not one.nearly for one in looks)


def test_the_client_is_not_imported_for_others(tmp_path: Path):
    code = "import sys, zsvg.label.run; print('openai' in sys.modules, 'anyio' in sys.modules)"
    done: subprocess.CompletedProcess[str] = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.split()[0] == "False", done.stderr
