"""The demo shows the right picture: of links, long films, old codecs, mirrored ones and GIFs."""

from __future__ import annotations

import os
import struct
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.conftest import HANG, encode_video
from tests.demo_pages import labelled_page, microworld_video
from tests.demo_tab import VIDEO, Tab
from zsvg.resources import demo_module

previews = demo_module("previews")
MINUTES, RATE = 20, 5
COLOUR = """([player, x]) => {
  const video = document.querySelector(`#${player} video`);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  return [...context.getImageData(canvas.width * x, canvas.height / 2, 1, 1).data].slice(0, 3);
}"""


def minutes(path: Path, codec: str, count: int = MINUTES, scene: float = -1000.0) -> Path:
    """Write a film of some minutes, each a shade lighter; `scene`: when microworld is shown."""
    from zsvg.microworld.render import Renderer
    from zsvg.microworld.world import plan_video

    renderer = Renderer(plan_video("chalk", "val", 5, 0)[0])
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 10 * RATE
        for index in range(count * 60 * RATE):
            picture = np.full((48, 64, 3), 10 + 10 * (index // (60 * RATE)), np.uint8)
            if 0 <= index / RATE - scene < 12:
                picture = renderer.frame(index / RATE - scene)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(64, 48, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        "avi": minutes(folder / "long.avi", "mpeg4"),
        "mkv": minutes(folder / "long.mkv", "libx264"),
    }


def shade(tab: Tab, seconds: float) -> float:
    """Return how light the player's picture is once it stands at a time."""
    tab.arrives(seconds)
    video = VIDEO.format("ground")
    tab.page.wait_for_function(f"{video}?.seeking === false && {video}.readyState >= 2")
    return float(np.mean(tab.page.evaluate(COLOUR, ["ground-player", 0.5])))


def plays(tab: Tab, player: str = "ground") -> None:
    """Wait until there is something to play."""
    tab.page.wait_for_function(f"{VIDEO.format(player)}?.readyState >= 2")


@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_moments_late_in_a_film_are_shown(tab: Tab, films: dict[str, Path], kind: str):
    page = tab.page
    tab.upload(films[kind])
    page.get_by_text("you see a copy in H.264.").wait_for()
    plays(tab)
    track = page.locator("#ground-timeline .zt-film").bounding_box()
    for place in (0.575, 0.775, 0.975):  # in the middle of a minute
        page.mouse.click(track["x"] + track["width"] * place, track["y"] + 5)
        minute = int(MINUTES * place)
        page.wait_for_function(
            f"Math.abs({VIDEO.format('ground')}.currentTime - {1200 * place}) < 4"
        )
        assert shade(tab, tab.now()) == pytest.approx(10 + 10 * minute, abs=4)


def test_of_films_that_are_too_long_to_convert_moments_are_shown(
    tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(previews, "WHOLE_PIXELS", 0.0)
    monkeypatch.setattr(previews, "WHOLE_MINUTES", 1.0)
    page = tab.page
    tab.upload(minutes(tmp_path / "long.avi", "mpeg4", 3, scene=140.0))
    page.get_by_text("Around the moments it shows everything").wait_for()
    plays(tab)
    before = page.evaluate(f"{VIDEO.format('ground')}.currentSrc")
    tab.ask("a red star spins")
    page.wait_for_function(f"{VIDEO.format('ground')}.currentSrc != '{before}'")
    plays(tab)
    moment = page.locator(".zc-card").first
    start, end = (float(moment.get_attribute(f"data-{edge}")) for edge in ("start", "end"))
    assert 130 < start < end < 160
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(page.request.get(page.evaluate(f"{VIDEO.format('ground')}.currentSrc")).body())
    with av.open(str(copy)) as container:
        times = np.array([frame.time for frame in container.decode(video=0)])
    inside = times[(times > start - 3) & (times < end + 3)]
    assert np.diff(inside).max() == pytest.approx(1 / RATE, abs=0.01)
    assert len(times) < 3 * 60 * RATE / 2
    track = page.locator("#ground-timeline .zt-film").bounding_box()
    page.mouse.click(track["x"] + track["width"] * 0.5, track["y"] + 5)  # between the moments
    page.wait_for_function(f"Math.abs({VIDEO.format('ground')}.currentTime - 90) < 1")
    assert shade(tab, tab.now()) == pytest.approx(20, abs=4)


def test_a_conversion_shows_how_far_it_is_and_nothing_false(
    tab: Tab, films: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    seen, convert = threading.Event(), previews.preview

    def slowly(*given: Any, on_progress: Any, **more: Any) -> None:
        on_progress(1.0, 4.0)
        assert seen.wait(HANG)
        convert(*given, on_progress=on_progress, **more)

    monkeypatch.setattr(previews, "preview", slowly)
    tab.upload(films["avi"])
    tab.page.get_by_text("Making a copy that browsers play").wait_for()
    tab.page.get_by_text("25.0%").wait_for()
    assert tab.page.get_by_text("not playable").count() == 0
    seen.set()
    plays(tab)
    assert tab.page.get_by_text("not playable").count() == 0


def test_mirrored_videos_are_shown_as_they_are_meant(tab: Tab, tmp_path: Path):
    pictures = np.full((12, 48, 64, 3), (20, 40, 200), np.uint8)
    pictures[:, :, :32] = (220, 30, 30)  # coded on the left, meant on the right
    file = encode_video(tmp_path / "mirrored.mp4", pictures)
    content = bytearray(file.read_bytes())
    matrix = content.index(b"tkhd") + 44
    one, w = 1 << 16, 1 << 30
    content[matrix : matrix + 36] = struct.pack(">9i", -one, 0, 0, 0, one, 0, 64 << 16, 0, w)
    file.write_bytes(content)
    tab.upload(file)
    tab.page.get_by_text("mirrored): you see a copy").wait_for()
    plays(tab)
    red, _, blue = tab.page.evaluate(COLOUR, ["ground-player", 0.25])
    assert blue > 150 > 100 > red
    red, _, blue = tab.page.evaluate(COLOUR, ["ground-player", 0.75])
    assert red > 150 > 100 > blue


def test_gifs_are_taken(tab: Tab, tmp_path: Path):
    pictures = [Image.new("RGB", (64, 48), (220, 30, 30) if n < 4 else (20, 40, 200))
                for n in range(8)]  # fmt: skip
    file = tmp_path / "wink.gif"
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=500)
    tab.upload(file)
    tab.page.get_by_text("wink: ").wait_for()
    tab.page.get_by_text("you see a copy in H.264").wait_for()
    plays(tab)
    red, _, blue = tab.page.evaluate(COLOUR, ["ground-player", 0.5])
    assert red > 150 > 100 > blue
    tab.ask("a red star spins")
    tab.page.wait_for_selector(".zc-card")


def test_a_folder_of_links_shows_the_videos_they_lead_to(
    chromium: Any, tmp_path_factory: pytest.TempPathFactory
):
    store, folder = (tmp_path_factory.mktemp(name) for name in ("store", "links"))
    real = {}
    for index, place in enumerate(("a", "b", "c")):
        (folder / place).mkdir()
        real[f"{place}/clip"] = microworld_video(store / f"film-{index}.mp4", index)
        # Relative, as `ln -s` writes them, and all of one name.
        target = os.path.relpath(real[f"{place}/clip"], folder / place)
        (folder / place / "clip.mp4").symlink_to(target)
    with labelled_page(tmp_path_factory, folder) as served:
        tab = Tab(chromium, served.url)
        page = tab.page
        tab.label_folder()

        def turn(vid: str) -> None:
            page.locator("#label-video input").click()
            page.get_by_role("option", name=vid).click()
            page.wait_for_function(
                f"document.querySelector('#label-video input').value.includes('{vid}')"
            )

        plays(tab, "label")
        for vid in ("b/clip", "a/clip"):
            before = page.evaluate(f"{VIDEO.format('label')}.currentSrc")
            turn(vid)
            page.wait_for_function(f"{VIDEO.format('label')}?.currentSrc != '{before}'")
            source = page.evaluate(f"{VIDEO.format('label')}.currentSrc")
            shown = page.request.get(source).body()
            assert shown == real[vid].read_bytes(), vid
        real["c/clip"].unlink()
        turn("c/clip")
        page.locator("#label-note").get_by_text("no such file").wait_for()
        assert page.locator("#label-player video").count() == 0
        turn("b/clip")
        plays(tab, "label")
        tab.close()
