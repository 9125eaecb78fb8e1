"""Work on what comes next in a second thread, while this one uses what is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ahead(
    items: Iterable[_Item], work: Callable[[_Item], _Result], depth: int = 2, *, wait: bool = False
) -> Generator[tuple[_Item, Future[_Result]], None, None]:
    """Yield each item with the future of `work(item)`, while a thread works on the next ones.

    One thread, so the items are worked on in their order, and at most `depth` results wait beside
    the one in use: memory does not grow with the number of items. What `work` raises comes out of
    the item's own future. Close it after stopping early; the item being worked on is still
    finished.

    Args:
        items: Any number.
        work: Called in the other thread.
        depth: At least 1.
        wait: Wait for the thread when this is closed.
    """
    pool = ThreadPoolExecutor(1, "zsvg-ahead", *_same_gpu())
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > depth:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)


def in_turn(
    items: Iterable[_Item], work: Callable[[_Item], _Result]
) -> Generator[tuple[_Item, Future[_Result]], None, None]:
    """Yield as `ahead` does, without working on anything before it is asked for."""
    for item in items:
        future: Future[_Result] = Future()
        try:
            future.set_result(work(item))
        except Exception as error:
            future.set_exception(error)
        yield item, future


def _same_gpu() -> tuple[Any, ...]:
    """Return what makes "cuda" mean the same GPU in a new thread: each has its own current one."""
    import torch

    if not torch.cuda.is_initialized():
        return ()
    return torch.cuda.set_device, (torch.cuda.current_device(),)
