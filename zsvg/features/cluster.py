"""Items as tasks of a Ray cluster: its workers hold the models and take one item after another.

Ray Data starts the workers, gives each what it has room for, and starts one anew where its process
or its node died. What such a worker had in hand is given out again by us, at the end: Ray's own
retries would wait for this very worker, on a cluster that may have no room for it any more.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from zsvg.errors import ZsvgError
from zsvg.features.worker import Worker

AUTO = "auto"
_ALONE = "local"  # to Ray
_log = logging.getLogger(__name__)

_ROUNDS = 3
"""How often an item is given out whose worker dies: it may be what kills it."""
_IN_HAND = 2
"""Items of a worker: one is looked at while the models are busy with the other."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Make = Callable[[str], Callable[[_Item], _Result]]
"""Called once in each worker with the device of its models; returns what is called with items."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where work is done.

    All its machines see the same files under the same names: videos, models, caches.

    Attributes:
        address: HOST:PORT of a cluster that this machine belongs to, "auto" for the one that it
            belongs to, and where there is none for this machine alone.
        workers: How many there are to be, also if machines for them come later; None: as many as
            there is room for.
        gpus: Share of a GPU that each takes, 0 for none; None: 1 where the cluster has any, else 0.
        device: Where models are loaded; None: the GPU that a worker has a share of, else its CPUs.

    Raises:
        ZsvgError: A number is out of range, or the address is that of a client.
    """

    address: str = AUTO
    workers: int | None = None
    gpus: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if "://" in self.address:
            raise ZsvgError(
                f"--ray {self.address}: run this on a machine of the cluster, as `ray job submit` "
                "does, and say auto"
            )
        if self.workers is not None and self.workers < 1:
            raise ZsvgError(f"--workers {self.workers}: at least 1 is needed")
        if self.gpus is not None and (self.gpus < 0 or (self.gpus > 1 and self.gpus % 1)):
            raise ZsvgError(f"--gpus-per-worker {self.gpus:g}: say 0, a part of 1, or whole GPUs")


def check_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        ZsvgError: It is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ZsvgError(f'--ray needs Ray: pip install "zsvg[cluster]" ({error})') from error


def same_model(name: str, here: str, there: str) -> None:
    """Refuse a model that has the same name on two machines, and is another one.

    Args:
        name: Of the model.
        here: Its fingerprint where the work is given out.
        there: Its fingerprint where the work is done.

    Raises:
        ZsvgError: They differ.
    """
    if here != there:
        raise ZsvgError(
            f"{name} is {there[:12]} there and {here[:12]} where the work is given out; have the "
            "same model, and the same zsvg, on all machines"
        )


def spread(
    items: Mapping[str, _Item], make: Make[_Item, _Result], cluster: Cluster
) -> Generator[tuple[str, Future[_Result]], None, None]:
    """Yield each item's name with the future of its result, which is there, as they are done.

    As `zsvg.features.ahead.ahead`, with workers of a cluster in place of a thread: what makes a
    result gets two items at a time, in two threads. Each worker has as many threads as this process
    (`torch.get_num_threads`), works in the folder of the same name, and reserves as many CPUs, or
    one beside its share of a GPU. What it warns of is said here. An item is given out again, at the
    end, where its worker died meanwhile.

    Args:
        items: Any number by name; they can be pickled, as results can.
        make: Of a module, or a `functools.partial` of such a function.
        cluster: Where.

    Raises:
        ZsvgError: There is no such cluster, no room on it, or no worker can load its models. Of an
            item: it failed, or three workers died with it in hand. Its future raises it.
    """
    left = dict(items)
    if not left:
        return
    check_ray()
    with _joined(cluster.address):
        for round_ in range(1, _ROUNDS + 1):
            for name, found in _one_round(left, make, cluster, last=round_ == _ROUNDS):
                if name in left:  # Ray may make anew what a node had made and took with it
                    del left[name]
                    yield name, found
            if not left:
                return
            _log.info("%d were in hand of workers that died: %s", len(left), ", ".join(left))
    for name in left:
        lost: Future[_Result] = Future()
        lost.set_exception(
            ZsvgError(
                f"{_ROUNDS} workers died with it in hand, perhaps because of it; leave it out"
            )
        )
        yield name, lost


def _one_round(
    left: Mapping[str, _Item], make: Make[_Item, _Result], cluster: Cluster, *, last: bool
) -> Iterator[tuple[str, Future[_Result]]]:
    """Yield names and results of what is done; what is lost with a worker is left out."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from torch import get_num_threads

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a task that raises is one whose worker died
    for name in ("ray.data", "ray.data.dataset"):  # it tells of plans, and of each such task
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = get_num_threads()
    gpus = cluster.gpus
    if gpus is None:
        gpus = 0 if cluster.device == "cpu" else min(1, ray.cluster_resources().get("GPU", 0))
    cpus = 1 if gpus else threads
    count = min(len(left), cluster.workers or _room(cpus, gpus))
    hand = 1 if last else _IN_HAND  # then nobody dies of somebody else's video
    say = f"{count} workers of {cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    _log.info("%s, %d threads each, for %d", say, threads, len(left))
    rows = [{"name": name, "item": pickle.dumps(item)} for name, item in left.items()]
    device = cluster.device or ("cuda" if gpus else "cpu")
    level = logging.getLogger("zsvg").getEffectiveLevel()
    with warnings.catch_warnings():  # that these two options will get another place
        warnings.simplefilter("ignore", DeprecationWarning)
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(make, device, os.getcwd(), level),
            compute=ActorPoolStrategy(
                size=count,
                max_tasks_in_flight_per_actor=hand,
                max_concurrent_calls_per_actor=hand,
                enable_true_multi_threading=True,
            ),
            num_cpus=cpus,
            num_gpus=gpus,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
            max_restarts=-1,
            max_task_retries=0,
        )
    for block in done.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for row in block.to_pylist():
            yield row["name"], pickle.loads(row["told"]).future()


def _room(cpus: int, gpus: float) -> int:
    """Return how many workers the machines have room for, each for itself.

    Raises:
        ZsvgError: Not for one.
    """
    import ray

    count = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            room = has.get("CPU", 0) // cpus
            if gpus:
                cards = has.get("GPU", 0)
                each = cards * math.floor(1 / gpus + 1e-9) if gpus <= 1 else cards // gpus
                room = min(room, each)
            count += int(room)
    if not count:
        raise ZsvgError(
            f"no machine of the cluster has room for a worker of {cpus} CPUs and {gpus:g} GPUs; "
            "set OMP_NUM_THREADS, which is how many CPUs it takes, or --gpus-per-worker"
        )
    return count


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Belong to a cluster meanwhile; one that the caller has joined is used and stays.

    Raises:
        ZsvgError: There is none at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # of its own, 15: all else comes first
    import ray

    if ray.is_initialized():
        yield
        return
    address = _place(address)
    quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    # Ray's usual folder says where a cluster runs: others would join this one, and end with it.
    short = "/tmp" if os.path.isdir("/tmp") else None  # its sockets may not have long names
    with TemporaryDirectory(prefix="zsvg-", dir=short, ignore_cleanup_errors=True) as folder:
        if address == _ALONE:
            quiet |= {"include_dashboard": False, "_temp_dir": folder}
        try:
            ray.init(address, **quiet)
            yield
        finally:
            ray.shutdown()


def _place(address: str) -> str:
    """Return what to say to Ray, which itself looks for minutes for a cluster that has gone.

    Raises:
        ZsvgError: Nobody listens at an address that the user named.
    """
    from ray._private.utils import read_ray_address

    named = os.environ.get("RAY_ADDRESS", "") if address == AUTO else address
    found = named or read_ray_address() or ""
    host, _, port = found.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return found
    except (OSError, ValueError) as error:
        if named:
            raise ZsvgError(
                f"--ray {named}: no Ray cluster answers at this HOST:PORT ({error}); `ray start "
                f"--address {named}` lets this machine belong to one"
            ) from error
    _log.info("this machine belongs to no Ray cluster, and works alone")
    return _ALONE
