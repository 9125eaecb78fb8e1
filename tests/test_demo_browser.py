"""The demo as people meet it: in a browser, by mouse and by keyboard, on screens and phones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.browser import WAIT
from tests.demo_pages import Page
from tests.demo_tab import SETTLED, VIDEO, Tab
from zsvg.records import read_annotations
from zsvg.training.labels import is_pseudo


@pytest.fixture(scope="module")
def workshop(chromium: Any, served: Page) -> Iterator[Tab]:
    """A visitor whose labels have been written."""
    tab = Tab(chromium, served.url)
    tab.to("Label")
    tab.page.get_by_role("button", name="Write labels").click()
    tab.page.wait_for_selector("#label-timeline .zt-bar.picked")
    yield tab
    tab.close()


def test_upload_ask_and_jump(tab: Tab, upload: Path, tmp_path: Path):
    page = tab.page
    tab.upload(upload)
    page.wait_for_selector("#ground-timeline .zt-film img")
    tab.ask("a red star spins\n{{value}} ${1+1} <b>blue</b>")
    page.wait_for_selector(".zc-card")
    assert page.locator(".zc h2").all_inner_texts() == [
        "a red star spins",
        "{{value}} ${1+1} <b>blue</b>",
    ]
    assert page.locator("#ground-timeline .zt-lane").count() == 2
    page.wait_for_function(f"{VIDEO.format('ground')}?.readyState > 0")

    cards = page.locator(".zc-card")
    starts = [float(cards.nth(i).get_attribute("data-start")) for i in range(cards.count())]
    assert len(set(starts)) > 1
    chosen = max(range(len(starts)), key=starts.__getitem__)
    cards.nth(chosen).click()
    end = float(cards.nth(chosen).get_attribute("data-end"))
    tab.arrives(end)  # the moment has been played
    head = page.locator("#ground-timeline .zt-head")
    place = float(head.evaluate("head => parseFloat(head.style.left)"))
    assert place == pytest.approx(100 * end / 12, abs=1)

    track = page.locator("#ground-timeline .zt-film").bounding_box()
    page.mouse.click(track["x"] + track["width"] * 0.75, track["y"] + 5)
    tab.arrives(9.0)

    with page.expect_download() as files:
        page.get_by_role("button", name=".srt").click()
    files.value.save_as(tmp_path / "mine.srt")
    assert "a red star spins" in (tmp_path / "mine.srt").read_text()
    with page.expect_download() as files:
        page.get_by_role("button", name=".fcpxml").click()
    files.value.save_as(tmp_path / "mine.fcpxml")
    # It lies beside the file; where the server keeps it is the server's affair.
    assert ' src="mine.mp4"' in (tmp_path / "mine.fcpxml").read_text()
    page.get_by_label("Cut moment 1 out as a clip").first.click()
    with page.expect_download() as files:
        page.get_by_role("button", name="Download mine-").click()
    assert files.value.suggested_filename.endswith(".mp4")
    assert tab.grave() == []
    assert {urlparse(url).netloc for url in tab.asked if url.startswith("http")} == {
        urlparse(page.url).netloc
    }


def test_everything_can_be_done_by_keyboard(tab: Tab, upload: Path):
    page = tab.page
    page.get_by_label("paper", exact=True).focus()
    page.keyboard.press("Space")
    page.wait_for_selector("#ground-timeline .zt-film img")
    page.wait_for_function("document.querySelector('#ground-sentences textarea').value")
    page.get_by_label("One sentence per line").focus()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".zt-bar")
    page.wait_for_function(f"{VIDEO.format('ground')}?.readyState > 0")
    bar = page.locator("#ground-timeline .zt-bar").nth(1)
    bar.focus()
    assert bar.evaluate("bar => getComputedStyle(bar).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    tab.arrives(float(bar.get_attribute("data-end")))  # the moment has been played
    ruler = page.get_by_role("slider", name="Play head")
    ruler.focus()
    page.keyboard.press("Home")
    tab.arrives(0)
    page.keyboard.press("ArrowRight")
    tab.arrives(1)
    assert ruler.get_attribute("aria-valuetext") == "1.0 seconds"


def test_a_visitor_never_sees_the_video_of_another(chromium: Any, served: Page, upload: Path):
    first, second = Tab(chromium, served.url), Tab(chromium, served.url)
    first.upload(upload)
    first.page.wait_for_selector("#ground-timeline .zt-film img")
    first.ask("a red star spins")
    first.page.wait_for_selector(".zc-card")
    second.ask("a red star spins")
    second.page.get_by_text("upload a video first").wait_for()
    assert second.page.locator(".zt-film, .zc-card").count() == 0
    assert "mine" not in second.page.content()
    second.close()
    first.close()


def test_what_is_no_video_is_refused_in_words(tab: Tab, tmp_path: Path):
    renamed = tmp_path / "program.mp4"
    renamed.write_bytes(b"\x7fELF" + bytes(5000))
    tab.upload(renamed)
    tab.page.get_by_text("program.mp4: ").first.wait_for()
    shown = tab.page.inner_text("body")
    assert "/tmp" not in shown
    assert "Traceback" not in shown
    tab.ask("a red star spins")
    tab.page.get_by_text("upload a video first").wait_for()


def test_a_file_that_browsers_cannot_play_gets_a_preview(tab: Tab, upload: Path, tmp_path: Path):
    import av

    with av.open(str(upload)) as source, av.open(str(tmp_path / "old.avi"), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        picture = source.streams.video[0]
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        for frame in source.decode(picture):
            sink.mux(stream.encode(frame.reformat(format="yuv420p")))
        sink.mux(stream.encode(None))
    tab.upload(tmp_path / "old.avi")
    tab.page.get_by_text("you see a copy in H.264").wait_for()
    tab.page.wait_for_function(f"{VIDEO.format('ground')}?.duration > 11")


def test_a_pseudo_label_is_fixed_and_exported(workshop: Tab, tmp_path: Path):
    page = workshop.page
    workshop.to("Label")
    bars = page.locator("#label-timeline .zt-lane.b .zt-bar")
    total = bars.count()
    assert total >= 2
    bars.nth(1).click()
    page.wait_for_selector("#label-timeline .zt-lane.b .zt-bar:nth-of-type(2).picked")
    end = page.get_by_label("End (s)")
    before = float(end.input_value())
    handle = page.get_by_role("slider", name="End of the moment")
    handle.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        f"document.querySelector('#label-last input').value == {round(before - 0.1, 2)}"
    )
    place = handle.bounding_box()
    page.mouse.move(place["x"] + 7, place["y"] + 10)
    page.mouse.down()
    page.mouse.move(place["x"] - 20, place["y"] + 10, steps=4)
    page.mouse.up()
    page.wait_for_function(
        f"Number(document.querySelector('#label-last input').value) < {before - 0.15}"
    )
    dragged = float(end.input_value())
    assert workshop.now("label") == pytest.approx(dragged, abs=0.1)
    page.get_by_label("Sentence", exact=True).fill("a thing that I have seen")
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("1 fixed").wait_for()
    assert page.get_by_label("2 ✎ a thing that I have seen").count() == 1
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("1 rejected").wait_for()
    with page.expect_download() as files:
        page.get_by_role("button", name="Export JSONL").click()
    files.value.save_as(tmp_path / "labels.jsonl")
    labels = read_annotations(tmp_path / "labels.jsonl")
    mine = [label for label in labels if not is_pseudo(label)]
    assert [label.query for label in mine] == ["a thing that I have seen"]
    assert mine[0].relevant_windows[0][1] == pytest.approx(dragged, abs=0.01)
    assert len(labels) > 1
    assert workshop.grave() == []


def test_a_tuning_run_is_watched_stopped_continued_and_tried(workshop: Tab, upload: Path):
    page = workshop.page
    workshop.to("Tune")
    page.get_by_text("of yours").first.wait_for()
    steps = page.get_by_label("number input for Steps")
    steps.fill("2000")
    steps.press("Tab")
    page.get_by_role("button", name="Tune", exact=True).click()
    page.wait_for_selector("#tune-curves .pair svg")
    page.wait_for_function(
        "Number(document.querySelector('#tune-said').innerText.match(/(\\d+) of 2000/)?.[1]) > 20"
    )
    assert workshop.grave() == []
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    page.get_by_text("Tune continues with what is finished").wait_for()
    page.get_by_role("button", name="Tune", exact=True).click()
    page.get_by_text("Tuning, continued after step").wait_for()
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    page.get_by_text("Tune continues with what is finished").wait_for()
    steps.fill("20")
    steps.press("Tab")
    page.get_by_role("button", name="Tune", exact=True).click()
    page.get_by_text("held-out labels, mIoU").wait_for()
    workshop.to("Ground")
    workshop.upload(upload)
    page.wait_for_selector("#ground-timeline .zt-film img")
    page.get_by_label("One sentence per line").fill("a red star spins")
    workshop.to("Tune")
    page.get_by_role("button", name="Ask it in Ground").click()
    page.wait_for_selector(".zc-side.b")
    assert page.locator(".zc h3").all_inner_texts() == ["training-free", "yours, tuned here"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(chromium: Any, served: Page, upload: Path, scheme: str):
    tab = Tab(chromium, served.url, size=(390, 844), color_scheme=scheme, has_touch=True)
    tab.upload(upload)
    tab.page.wait_for_selector("#ground-timeline .zt-film img")
    tab.ask("a red star spins")
    tab.page.wait_for_selector(".zc-card")
    for name in ("Ground", "Label", "Tune"):
        tab.to(name)
        tab.page.wait_for_function(SETTLED)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert tab.grave() == [], name
    tab.close()


# What a page of somebody else's can try, as soon as it is open beside this one.
ELSEWHERE = """<!doctype html><title>elsewhere</title><a href="{url}">the demo</a>
<form id="form" method="post" enctype="multipart/form-data" target="form-answer"
      action="{url}gradio_api/upload"><input type="file" name="files"></form>
<iframe name="form-answer"></iframe><iframe id="framed" src="{url}"></iframe>
<script>
const film = () => {{
    const data = new FormData();
    data.append("files", new File(["planted"], "planted.mp4"));
    return data;
}};
async function attempt(path, options) {{
    try {{
        const answer = await fetch("{url}" + path, options);
        return answer.type == "opaque" ? "sent, not read" : await answer.text();
    }} catch (error) {{ return "refused"; }}
}}
async function sendForm() {{
    const files = new DataTransfer();
    files.items.add(new File(["planted"], "planted.mp4"));
    document.querySelector("#form input").files = files.files;
    document.querySelector("#form").submit();
}}
</script>"""


@contextmanager
def elsewhere(url: str) -> Iterator[str]:
    """Serve a page of another origin, which knows where the demo is; yield its address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(ELSEWHERE.format(url=url).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_of_another_origin_plants_reads_and_frames_nothing(chromium: Any, served: Page):
    def kept() -> set[Path]:
        return {file for file in served.served.rglob("*") if file.is_file()}

    before = kept()
    with elsewhere(served.url) as url:
        # Of another port, and of a name that is another site altogether.
        for address in (url, url.replace("127.0.0.1", "localhost")):
            context = chromium.new_context()
            page = context.new_page()
            page.set_default_timeout(WAIT)
            answers: list[tuple[str, str, int]] = []
            page.on(
                "response",
                lambda r, seen=answers: seen.append(
                    (r.request.method, urlparse(r.url).path, r.status)
                ),
            )
            page.goto(address)
            sent = page.evaluate(
                """() => attempt("gradio_api/upload",
                                 {method: "POST", mode: "no-cors", body: film()})"""
            )
            assert sent == "sent, not read"
            for path, options in (
                ("gradio_api/upload", '{method: "POST", body: film()}'),
                ("config", "{}"),
                ("gradio_api/run/label_stop", '{method: "POST", body: JSON.stringify({data: []})}'),
            ):
                said = page.evaluate(f"() => attempt({path!r}, {options})")
                assert said == "refused", path
            with page.expect_response(lambda r: r.request.is_navigation_request()) as answer:
                page.evaluate("sendForm()")
            assert answer.value.status == 403
            assert {status for method, *_, status in answers if method == "POST"} == {403}
            assert kept() == before
            # What has been refused to a frame is replaced by a page of Chromium's own.
            framed = page.query_selector("#framed").content_frame()
            framed.wait_for_load_state()
            assert framed.url.startswith("chrome-error://")
            page.get_by_text("the demo").click()  # a link is followed
            page.wait_for_selector("#ground-ask")
            context.close()
