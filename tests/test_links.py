"""Paths for people, and addresses of files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlparse

import pytest

from tests.conftest import environment, run_python
from zsvg.report.links import file_url, near

ODD = "a #1?x=%20&\"b\" 'c' <d>:é\n\x1b[31m\udcff.mp4"


def test_the_shorter_of_two_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert near(tmp_path / "here" / "v" / "a.mp4") == os.path.join("v", "a.mp4")
    assert near(tmp_path / "a.mp4") == os.path.join("..", "a.mp4")
    assert near("v/a.mp4") == "v/a.mp4"
    assert near(Path("/a.mp4")) == "/a.mp4"
    assert near("v/../v/a.mp4") == os.path.join("v", "a.mp4")


@pytest.mark.parametrize("name", [ODD, "a:b.mp4", "https:b.mp4", "#a", "?", "sub/a b.mp4"])
def test_addresses_lead_back_to_the_bytes_of_a_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    wanted = os.fsencode(tmp_path / name)
    page = tmp_path / "results.html"
    urls = [file_url(name), file_url(name, "results.html"), file_url(name, "pages/results.html")]
    for url in urls:
        assert re.fullmatch(r"[\w/.%~:-]+", url, re.ASCII)
        whole = urlparse(urljoin(page.as_uri(), url))
        assert (whole.scheme, whole.netloc, whole.query, whole.fragment) == ("file", "", "", "")
        assert unquote_to_bytes(whole.path) == wanted
    assert [url.startswith("file:///") for url in urls] == [True, False, True]


CODE = """
import sys
from zsvg.cli.terminal import table
table(["video", "n"], [["a\\x1b[31m [b].mp4", "1"], ["c", "2"]], "t", ["file:///a%1B", "file:///c"])
"""


def test_only_terminals_get_links():
    plain = run_python("-c", CODE)
    assert plain.returncode == 0, plain.stderr
    assert "\x1b" not in plain.stdout
    assert "file:" not in plain.stdout
    assert r"a\x1b[31m [b].mp4" in plain.stdout
    variables = environment(FORCE_COLOR="1", TERM="xterm-256color")
    shown = run_python("-c", CODE, env=variables).stdout
    links = re.findall(r"\x1b\]8;[^;]*;([^\x1b]+)\x1b\\([^\x1b]*)\x1b\]8;;\x1b\\", shown)
    assert links == [("file:///a%1B", r"a\x1b[31m [b].mp4"), ("file:///c", "c")]
    variables["TERM"] = "dumb"
    assert "\x1b]8" not in run_python("-c", CODE, env=variables).stdout
