"""The same work for several inputs, in processes side by side, each with its share of the cores.

Small models keep two threads busy badly: two trainings with a thread each take much less time than the same
two after each other with two threads each. So work that is done once for each replicate goes through here.

    in_workers(train, [(config,) for config in configs], title="reward models")

`function` must be importable by its module's name, its arguments and results must be picklable. On a GPU, and
where there is one core or one call, the calls run after each other in this process.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import forkserver
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
COUNT = "RLHF_HW_WORKERS"  # environment: at most so many processes


def in_workers(function: Callable[..., T], calls: Sequence[Sequence[Any]], title: str = "") -> list[T]:
    """What `function(*call)` returns for each call, in their order.

    Args:
        function: Of a module; it may use torch.
        calls: Arguments of each call.
        title: What the progress bar calls them.

    Raises:
        Exception: what a call has raised; calls that have not begun are then left out.
    """
    count = processes_for(len(calls))
    if count <= 1:
        return [function(*call) for call in calls]
    get_ready([function.__module__])
    context = multiprocessing.get_context(_method())
    threads = max(1, cores() // count)
    with ProcessPoolExecutor(count, context, _begin, (threads,)) as pool:
        futures = [pool.submit(function, *call) for call in calls]
        try:
            for future in tqdm(as_completed(futures), total=len(calls), desc=title, leave=False):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def get_ready(modules: Sequence[str]) -> None:
    """Let the server that forks the workers load its libraries, while something else goes on.

    A server that has them forks workers that begin at once, and none is a copy of a process whose threads
    already run. The first call decides what is loaded.

    Args:
        modules: Names of modules of this library; what they import is loaded with them.
    """
    if _method() == "forkserver" and processes_for(2) > 1:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def _method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def processes_for(calls: int) -> int:
    """How many processes share so many calls: one a core, or what `RLHF_HW_WORKERS` says; one with a GPU.

    A few calls more than cores run all at once: three on two cores then take one and a half times as long as
    one, and not twice, because no core waits for the last of them.
    """
    import torch

    if torch.cuda.is_available():
        return 1
    if os.environ.get(COUNT):
        return min(calls, max(1, int(os.environ[COUNT])))
    return calls if calls < 2 * cores() else cores()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that handed out the work is gone, however it went: nobody takes the result."""
    multiprocessing.parent_process().join()
    os._exit(1)
