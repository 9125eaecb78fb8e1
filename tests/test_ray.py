"""Workers of a Ray cluster: what they make is what one process makes, also when a node dies."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import encode_video
from test_captioner import write_tiny_llava
from test_library_safety import content

from zsvg.backbones.captioner import load_captioner
from zsvg.errors import VideoError, ZsvgError
from zsvg.features.cluster import Cluster, check_ray, same_model, spread
from zsvg.label.asking import Asking
from zsvg.label.instructions import load_instructions
from zsvg.label.run import default_options, pseudo_label
from zsvg.records import to_jsonl

ray = pytest.importorskip("ray", reason='needs pip install "zsvg[cluster]"')
COUNT = 16
_IN_HAND = 2  # videos of a worker


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 4 s, and one that is none."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(COUNT):
        colours = np.random.default_rng(number).integers(0, 255, (2, 1, 6, 8, 3), np.uint8)
        scenes = colours.repeat(8, 2).repeat(8, 3).repeat(20, 1).reshape(40, 48, 64, 3)
        encode_video(folder / f"{number:02d}.mp4", scenes)
    (folder / "broken.mp4").write_bytes((folder / "00.mp4").read_bytes()[:700])
    return folder


class Nodes:
    """A head without processors, which the tests are on, and two nodes of two each."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster as Local

        self.folder = folder
        size = {"object_store_memory": 80 << 20, "include_dashboard": False}
        head = {"num_cpus": 0, **size}
        self.local = Local(initialize_head=True, head_node_args=head)
        self.nodes = {}
        for _ in range(2):
            node = self.local.add_node(num_cpus=2, **size)
            self.nodes[node.node_id] = node

    def begun(self, before: Counter[tuple[str, str]] | None = None) -> Counter[tuple[str, str]]:
        """Return how often (name, node) was begun, less what was begun `before`."""
        logs = self.folder.glob("session_2*/logs/worker-*.err")
        line = re.compile(r"zsvg\.features\.worker: (.+): begun on node (\w+)$", re.MULTILINE)
        said = (log.read_text(errors="replace") for log in logs)
        return Counter(pair for text in said for pair in line.findall(text)) - (before or Counter())

    def kill_busy(self, done: set[str], before: Counter[tuple[str, str]]) -> str | None:
        """Kill a node that has in hand what is not done; return which."""
        for name, short in self.begun(before):
            if name not in done:
                node = next(key for key in self.nodes if key.startswith(short))
                self.local.remove_node(self.nodes.pop(node), allow_graceful=False)
                return short
        return None


def by_name(begun: Counter[tuple[str, str]]) -> dict[str, int]:
    times: Counter[str] = Counter()
    for (name, _), count in begun.items():
        times[name] += count
    return dict(times)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # Short, for its sockets, and not the usual one, where `--ray auto` of other programs looks.
    with tempfile.TemporaryDirectory(prefix="zsvg-", dir="/tmp", ignore_cleanup_errors=True) as own:
        folder = Path(own, "ray")
        folder.mkdir()  # Ray writes the address there before it makes the folder
        yield from running(folder)


def running(folder: Path) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder.parent))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # kills where others use the memory
        patch.delenv("RAY_ADDRESS", raising=False)
        made = Nodes(folder)
        ray.init(made.local.address, log_to_driver=False)
        yield made
        ray.shutdown()
        made.local.shutdown()


@pytest.fixture(scope="module")
def alone(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The labels that one process writes, and its cache."""
    cache = tmp_path_factory.mktemp("alone")
    report = pseudo_label(videos, "micro", "micro", options=_ALL, cache=cache)
    assert len(report.labels) >= COUNT
    assert list(report.failures) == ["broken"]
    return to_jsonl(report.labels), cache


_ALL = default_options(min_score=-1.0)


def features_in(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.glob("*.safetensors")}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_labels_and_features_are_those_of_one_process(
    workers: int, videos, alone, nodes, tmp_path, run_zsvg
):
    out, cache = tmp_path / "pseudo.jsonl", tmp_path / "cache"
    before = nodes.begun()
    status, _, said = run_zsvg(
        "pseudo-label", videos, "--backbone", "micro", "--captioner", "micro", "-o", out,
        "--min-score", "-1", "--cache", cache, "--ray", "auto", "--workers", workers,
    )  # fmt: skip
    assert out.read_text(encoding="utf-8") == alone[0]
    assert features_in(cache) == features_in(alone[1])
    assert status == 1
    assert len(re.findall(f"^error: {videos / 'broken.mp4'}: ", said, re.MULTILINE)) == 1
    assert f"pseudo labels of {COUNT} videos" in said
    # What workers look at is noted here.
    assert f"about {COUNT} of {COUNT} videos" in said
    begun = by_name(nodes.begun(before))
    assert set(begun.values()) == {1}
    assert len(begun) == COUNT + 1


def test_what_is_finished_is_not_given_out(videos, alone, nodes, tmp_path):
    found = {path.stem: path for path in sorted(videos.glob("*.mp4"))}
    options = {"options": _ALL, "work_dir": tmp_path / "parts", "cache": alone[1]}
    some = {vid: found[vid] for vid in list(found)[3:-1]}
    pseudo_label(some, "micro", "micro", **options)
    before = nodes.begun()
    two = Cluster(workers=2)
    report = pseudo_label(found, "micro", "micro", **options, cluster=two)
    assert to_jsonl(report.labels) == alone[0]
    assert by_name(nodes.begun(before)) == {"00": 1, "01": 1, "02": 1, "broken": 1}
    with pytest.raises(ZsvgError, match="only 'features' does without"):
        pseudo_label(found, "micro", None, cluster=two)


def test_captioners_are_asked_in_workers_and_second_models_are_not(videos, nodes, tmp_path):
    name = str(write_tiny_llava(tmp_path / "llava"))
    some = {vid: videos / f"{vid}.mp4" for vid in ("00", "01")}
    fixed = {"options": default_options(count=2, min_score=-1.0), "cache": tmp_path / "cache"}
    words = Asking(instructions=load_instructions("sentence"))
    one, two = (
        pseudo_label(some, "micro", name, **fixed, asking=words, cluster=cluster)
        for cluster in (None, Cluster(workers=1))
    )
    assert {label.vid for label in one.labels} == set(some)
    assert all("event" in label.extra["source"] for label in one.labels)  # it was asked
    assert two == one
    other = Asking(verifier=load_captioner(name, "cpu"))
    with pytest.raises(ZsvgError, match="a second model"):
        pseudo_label(some, "micro", "micro", **fixed, asking=other, cluster=Cluster(workers=1))


def test_features_and_index_are_those_of_one_process(videos, nodes, tmp_path, run_zsvg):
    usual = ("--ray", "auto", "--workers", "2", "--gpus-per-worker", "0")
    shown = []
    for name, more in (("one", ()), ("two", usual)):
        line = ("--backbone", "micro", "--format", "jsonl", "--cache", tmp_path / name)
        status, out, said = run_zsvg("features", videos, *line, *more)
        assert (status, said.count("error: ")) == (1, 1)
        assert f"features of {COUNT} of {COUNT + 1} videos are in" in said
        shown.append(out)
        status, _, said = run_zsvg(
            "index", videos, "-o", tmp_path / f"{name}.lib", "--model", "micro", *more
        )
        assert (status, said.count("error: ")) == (1, 1)
        assert f"{COUNT} new, 1 not usable" in said
    assert shown[0] == shown[1]
    assert features_in(tmp_path / "one") == features_in(tmp_path / "two")
    assert content(tmp_path / "one.lib") == content(tmp_path / "two.lib")


def test_what_kills_its_worker_is_named_and_the_rest_is_done(nodes):
    def make(device: str):
        assert device == "cpu"

        def work(number: int) -> int:
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 3:
                raise VideoError("three.mp4: is none")
            return number * number

        return work

    results, errors = {}, {}
    items = {str(number): number for number in range(5)}
    for name, future in spread(items, make, Cluster(workers=2)):
        try:
            results[name] = future.result()
        except ZsvgError as error:
            errors[name] = str(error)
    assert results == {"0": 0, "1": 1, "4": 16}
    assert errors["3"] == "three.mp4: is none"
    assert "3 workers died" in errors["2"]


def test_models_that_cannot_be_loaded_and_our_errors_end_it(nodes):
    def nothing(device: str):
        raise ZsvgError("no such model")

    with pytest.raises(ZsvgError, match="no such model"):
        list(spread({"a": 1}, nothing, Cluster(workers=1)))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(spread({"a": 0}, lambda device: lambda item: 1 / item, Cluster(workers=1)))
    with pytest.raises(ZsvgError, match="no machine of the cluster has room"):
        list(spread({"a": 1}, nothing, Cluster(gpus=0.5)))


def test_a_node_dies_and_only_what_it_had_in_hand_is_done_again(videos, alone, nodes, tmp_path):
    before = nodes.begun()
    done: set[str] = set()
    killed: list[str] = []

    def kill(count: int, _total: int, vid: str) -> None:
        done.add(vid)
        if count >= COUNT // 2 and not killed and (node := nodes.kill_busy(done, before)):
            killed.append(node)
            safe.update(done)

    safe: set[str] = set()
    report = pseudo_label(
        videos, "micro", "micro", options=_ALL, cache=tmp_path, cluster=Cluster(workers=4),
        work_dir=tmp_path / "parts", on_progress=kill,
    )  # fmt: skip
    assert to_jsonl(report.labels) == alone[0]
    assert list(report.failures) == ["broken"]
    assert features_in(tmp_path) == features_in(alone[1])
    begun = nodes.begun(before)
    times = by_name(begun)
    assert killed
    assert all(times[name] == 1 for name in safe)
    assert sum(times.values()) <= COUNT + 1 + 2 * _IN_HAND  # two workers died
    assert len(times) == COUNT + 1
    again = {name for name, count in times.items() if count > 1}
    assert all((name, killed[0]) in begun for name in again)


class TestOptions:
    def test_what_is_no_cluster_is_refused_at_once(self, run_zsvg, monkeypatch):
        status, _, said = run_zsvg("features", "x", "--backbone", "micro", "--workers", "2")
        assert (status, said) == (1, "error: --workers 2 is of a cluster; give --ray too\n")
        for wrong, options in (
            ("at least 1", {"workers": 0}),
            ("a part of 1", {"gpus": 1.5}),
            ("on a machine of the cluster", {"address": "ray://head:10001"}),
        ):
            with pytest.raises(ZsvgError, match=wrong):
                Cluster(**options)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(ZsvgError, match=r"--ray 127.0.0.1:1: no Ray cluster answers"):
            list(spread({"a": 1}, lambda device: abs, Cluster(address="127.0.0.1:1")))
        monkeypatch.setitem(sys.modules, "ray.data", None)
        with pytest.raises(ZsvgError, match=re.escape('pip install "zsvg[cluster]"')):
            check_ray()

    def test_other_weights_under_the_same_name_are_refused(self):
        same_model("micro", "a" * 64, "a" * 64)
        with pytest.raises(ZsvgError, match="have the same model"):
            same_model("micro", "a" * 64, "b" * 64)

    def test_sentences_that_are_found_need_all_videos(self, videos, run_zsvg):
        line = ("pseudo-label", videos, "--backbone", "micro", "--ray", "auto")
        for more in (("--form", "vocabulary"), ("--verify", "micro")):
            status, _, said = run_zsvg(*line, *more)
            assert status == 1
            assert "use it in `zsvg features`" in said
