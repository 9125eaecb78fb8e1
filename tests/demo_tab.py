"""A visitor of the demo: one browser, and what people do in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser import WAIT, grave

SETTLED = """() => document.getAnimations().every(
    a => a.playState != "running" || a.effect.getComputedTiming().endTime == Infinity)"""
VIDEO = "document.querySelector('#{}-player video')"


class Tab:
    """One visitor's browser, with everything that it asked the network for."""

    def __init__(self, chromium: Any, url: str, **options: Any) -> None:
        size = options.pop("size", (1280, 900))
        # Colours on their way from one to another are nobody's.
        self.context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            **{"reduced_motion": "reduce", **options},
        )
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.goto(url)

    def goto(self, url: str) -> None:
        """Open the page, or open it again."""
        self.page.goto(url)
        self.page.wait_for_selector("#ground-ask, #library-search")

    def close(self) -> None:
        self.context.close()

    def to(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def upload(self, path: Path) -> None:
        self.page.locator("#ground-player input[type=file]").set_input_files(str(path))

    def ask(self, sentences: str) -> None:
        self.page.get_by_label("One sentence per line").fill(sentences)
        self.page.get_by_role("button", name="Find the moments").click()

    def now(self, player: str = "ground") -> float:
        return float(self.page.evaluate(f"{VIDEO.format(player)}.currentTime"))

    def arrives(self, seconds: float, player: str = "ground") -> None:
        """Wait until the player stands at a time."""
        video = VIDEO.format(player)
        near = f"Math.abs({video}.currentTime - {seconds}) < 0.06"
        self.page.wait_for_function(f"{video}.paused && {near}")

    def grave(self) -> list[str]:
        """Return what axe-core finds that keeps people out."""
        return grave(self.page)

    def search(self, sentence: str) -> list[str]:
        """Search the library; return which videos the moments are of, the best first."""
        box = self.page.locator("#library-search textarea")
        box.fill(sentence)
        box.press("Enter")
        self.page.locator("#library-said").get_by_text(f"“{sentence}”").wait_for()
        return self.wall()

    def wall(self) -> list[str]:
        """Return which videos the moments on the wall of the library are of."""
        return list(self.page.locator(".zw-name").all_inner_texts())

    def label_folder(self) -> None:
        """Have labels written of the folder of the page."""
        self.to("Label")
        self.page.get_by_label("The folder of this page").check()
        self.page.get_by_role("button", name="Write labels").click()
        self.page.wait_for_selector("#label-timeline .zt-bar.picked")

    def press(self, name: str) -> None:
        """Click a button of the Label tab, by its name."""
        self.page.locator(f"#label-{name}").click()

    def says(self, text: str) -> None:
        """Wait until the numbers of the Label tab have some text."""
        self.page.locator("#label-tally").get_by_text(text).wait_for()

    def video(self) -> str:
        """Return what the list of videos of the Label tab shows."""
        return str(self.page.locator("#label-video input").input_value())

    def labels(self) -> list[str]:
        """Return the list of labels."""
        return list(self.page.locator("#label-list label").all_inner_texts())

    def lists(self, text: str) -> None:
        """Wait until a label with some text is in the list."""
        self.page.locator("#label-list label").get_by_text(text).wait_for()
