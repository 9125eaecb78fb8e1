"""Shared fixtures and processes: a tiny random CLIP folder, small videos, `zsvg` as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before torch is imported: two test processes share the cores, and models this small gain nothing
# from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is equal to the last bit on a CPU need not be so on a GPU.
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

import hypothesis
import numpy as np
import pytest

CHECKOUT = Path(__file__).parent.parent
sys.path.append(str(CHECKOUT / "scripts"))  # parts of them have tests of their own
HANG = 540.0
"""Seconds after which a process has hung, below the limit of a whole test. No test measures time:
beside other programs an import of torch alone may take a minute."""

hypothesis.settings.register_profile(
    "anywhere",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("anywhere")

# Interpreters started by this one inherit signals that it ignores, as it does SIGINT in the
# background of a shell, under nohup and under cron. Python cannot be told to start them otherwise.
_HEAR_SIGNALS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a process on this checkout, with as many threads as this one."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def run_python(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run this interpreter on the checkout to its end; `options` as of `subprocess.run`."""
    usual = {"env": environment(), "capture_output": True, "text": True, "timeout": HANG}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=False, **{**usual, **options})


def two_processes(*line: str | Path) -> subprocess.CompletedProcess[str]:
    """Run what `python` takes in two processes of torchrun, each with the threads of this one."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    return run_python(*torchrun, *line)


@contextmanager
def started(*arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run this interpreter on the checkout, to be sent signals; it is killed at the end.

    Args:
        arguments: As of `python`.
        options: As of `subprocess.Popen`.
    """
    command = [sys.executable, "-c", _HEAR_SIGNALS, *map(str, arguments)]
    with subprocess.Popen(command, **{"env": environment(), **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any], seconds: float = HANG) -> Any:
    """Wait until a condition holds, and return it; it fails only where it would wait for ever."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)
    return found


VOCABULARY = """
a an the of in on to with and is are video photo picture person man woman child dog cat ball
red green blue yellow white black purple orange circle square triangle star shape scene
moves stands appears grows shrinks turns left right up down from off then while
opens closes sits walks runs throws holds puts takes door fridge table chair cup book who
"""


def write_tiny_tokenizer(folder: Path) -> int:
    """Write a word-level tokenizer whose end token has the highest id; return its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", *VOCABULARY.split(), "<start>", "<end>"]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab=ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", ids["<start>"]), ("<end>", ids["<end>"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    ).save_pretrained(folder)
    return len(words)


def write_tiny_clip(
    folder: Path, seed: int = 0, own_tokenizer: bool = True, layers: int = 3
) -> Path:
    """Write an open_clip `local-dir:` folder of seeded random weights, about 0.5 MB.

    Without its own tokenizer it uses open_clip's built-in one, and is 6 MB larger.

    Matrices are scaled by their fan-in, so that the outputs do depend on pixels and words;
    open_clip's own initialisation of so small a model makes all pictures look alike.
    """
    import torch
    from open_clip.model import CustomTextCLIP
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    words = write_tiny_tokenizer(folder) if own_tokenizer else 49408
    model_config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 48,
            "layers": layers,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": words,
            "width": 32,
            "layers": layers,
            "heads": 2,
        },
    }
    if own_tokenizer:
        model_config["text_cfg"]["hf_tokenizer_name"] = "in-this-folder"
    generator = torch.Generator().manual_seed(seed)
    model = CustomTextCLIP(**model_config)
    tensors = {}
    for name, value in sorted(model.state_dict().items()):
        if name == "logit_scale":
            tensors[name] = value
        elif value.ndim >= 2:
            fan_in = value[0].numel() if value.ndim > 2 else value.shape[-1]
            scale = 1.0 if "embedding" in name else 1.5 * fan_in**-0.5
            tensors[name] = torch.randn(value.shape, generator=generator) * scale
        elif name.endswith("weight"):  # layer norms
            tensors[name] = torch.ones_like(value)
        else:
            tensors[name] = torch.randn(value.shape, generator=generator) * 0.02
    save_file(tensors, folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": model_config,
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def encode_video(path: Path, frames: np.ndarray, times: list[float] | None = None, fps: int = 10):
    """Write (n, H, W, 3) uint8 frames as H.264 with the given presentation times in seconds."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "threads": "1", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round(1000 * (index / fps if times is None else times[index]))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def coloured_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return (count, height, width, 3) uint8 frames that get brighter, with a moving bar."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    for index in range(count):
        frames[index] = 20 + (200 * index) // max(count - 1, 1)
        left = (index * 4) % max(width - 8, 1)
        frames[index, :, left : left + 8] = (220, 30, 30)
    return frames


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seed torch, so that no test depends on those that were run before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip folder (32 px, patch 8, 3+3 layers, 32 dimensions): use `local-dir:{folder}`."""
    return write_tiny_clip(tmp_path_factory.mktemp("backbones") / "tiny-clip")


@pytest.fixture(scope="session")
def small_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4 s, 64x48, 10 fps H.264 mp4 that gets brighter over time."""
    return encode_video(tmp_path_factory.mktemp("videos") / "small.mp4", coloured_frames(40))


@pytest.fixture
def run_zsvg(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run `zsvg` in this process with some arguments; return exit status, stdout and stderr."""
    from zsvg.cli import app

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["zsvg", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            app.main()
        shown = capfd.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; not for longer, as its program keeps an event loop in this thread."""
    from tests.browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page of the demo with a folder of three videos; some modules serve another one."""
    from tests.demo_pages import labelled_page

    with labelled_page(tmp_path_factory) as page:
        yield page


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that a visitor of the demo brings."""
    from tests.demo_pages import microworld_video

    return microworld_video(tmp_path_factory.mktemp("uploads") / "mine.mp4", 7)


@pytest.fixture
def tab(chromium: Any, served: Any) -> Iterator[Any]:
    """A visitor of the page."""
    from tests.demo_tab import Tab

    tab = Tab(chromium, served.url)
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real test data; tests that need it are skipped when it is not there."""
    folder = os.environ.get("ZSVG_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set ZSVG_TEST_DATA to the folder of test data")
    return Path(folder)


@pytest.fixture
def as_nobody():
    """Run a process that permissions bind: those of root only where it gives up its privileges."""
    import shutil
    import subprocess

    drop: list[str] = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv (util-linux) to be bound by permissions")
        drop = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]

    def run(arguments, **options) -> subprocess.CompletedProcess[str]:
        command = [*drop, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)

    return run
