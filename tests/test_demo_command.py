"""`zsvg demo` as a command: what it says when it cannot start, and what it opens and keeps."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.conftest import HANG, environment, run_python, wait_for
from tests.demo_pages import command


@pytest.fixture
def port() -> Iterator[int]:
    """A port that another program listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_busy_port_says_what_to_do(port: int):
    done = run_python("-m", "zsvg", "demo", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: --port {port} is taken by another program; name a free one, as --port 8000"
    )


def test_a_hub_that_cannot_be_reached_says_what_to_do(port: int):
    # What listens at the port answers nobody.
    hub = environment(HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HUB_OFFLINE="1")
    done = run_python("-m", "zsvg", "demo", "--model", "ViT-B-32/laion400m_e32", env=hub)
    assert done.returncode == 1
    assert "is not on this machine, and cannot be downloaded" in " ".join(done.stderr.split())
    assert "check the name and the network" in " ".join(done.stderr.split())
    code = "from zsvg.backbones.captioner import load_captioner; load_captioner('nobody/captioner')"
    said = run_python("-c", code, env=hub).stderr.splitlines()[-1]
    assert said.endswith("check the name and the network, or give a folder with a downloaded one")


def test_a_project_is_open_in_one_page_at_a_time(tmp_path: Path):
    project = tmp_path / "project"
    with command(tmp_path, "--project", str(project)):
        done = run_python("-m", "zsvg", "demo", "--project", str(project))
        assert done.returncode == 1
        assert "another page has it open; end that first" in " ".join(done.stderr.split())
    file = tmp_path / "file"
    file.touch()
    done = run_python("-m", "zsvg", "demo", "--project", str(file))
    assert "is a file; name a folder" in " ".join(done.stderr.split())


def test_open_opens_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(seen)!r}, 'w').write(sys.argv[1])"
    )
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with command(tmp_path, "--open") as (process, url):
        wait_for(lambda: seen.exists() and seen.read_text())
        assert seen.read_text().startswith(url)
        process.terminate()
        assert process.wait(HANG) == 0


def test_features_go_to_the_ordinary_cache(small_video: Path, tmp_path: Path):
    from gradio_client import Client, handle_file

    with command(tmp_path) as (process, url):  # which names the cache
        client = Client(url, verbose=False, httpx_kwargs={"timeout": HANG})
        client.predict(handle_file(str(small_video)), api_name="/open")
        client.predict("a red square", 1, api_name="/ground")
        process.terminate()
        assert process.wait(HANG) == 0
    assert list((tmp_path / "features").rglob("*.safetensors"))
