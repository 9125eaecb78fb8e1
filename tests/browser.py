"""Chromium for tests that look at pages as people do; who imports this is skipped without it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import HANG

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
# Ubuntu's package of that name is a stub that asks for another program.
ASKED = {"capture_output": True, "timeout": HANG}
if not CHROMIUM or subprocess.run([CHROMIUM, "--version"], **ASKED).returncode:
    pytest.skip("no Chromium on this machine: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="as above")

WAIT = 300_000  # milliseconds; what a slow machine may take for any one thing
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@contextmanager
def launched() -> Iterator[Any]:
    """Yield a browser."""
    with sync_api.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=WAIT)
        yield browser
        browser.close()


def grave(page: Any) -> list[str]:
    """Return what axe-core finds on a page that keeps people out."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{v['impact']} {v['id']}: {v['nodes'][0]['html'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
