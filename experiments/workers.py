"""The processes that sweeps are computed in: workers on this machine, or those of a cluster that runs already."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from experiments.config import ConfigError

if TYPE_CHECKING:
    from distributed import Client

#: Run by each worker as it starts: Ctrl-C goes to every process of the terminal, and stopping is the driver's business.
_IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

#: What the workers' allocator may keep, in bytes. Dask has it give everything back at once; a world model's planner,
#: which asks for megabytes a thousand times a second, then runs at two fifths of its speed.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 1 << 28, "MALLOC_MMAP_THRESHOLD_": 1 << 25}


@contextmanager
def local_workers(count: int | None = None) -> Iterator[Client]:
    """``count`` worker processes of one thread each on this machine (default: one a core)."""
    set_up_dask()
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=count or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
            preload=_IGNORE_INTERRUPTS,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def remote_workers(address: str) -> Iterator[Client]:
    """The workers of a cluster that runs already.

    Raises:
        ConfigError: no scheduler answers there.
    """
    set_up_dask()
    from distributed import Client

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no scheduler answers at '{address}': start one with `dask scheduler`") from error
    with client:
        yield client


def set_up_dask() -> None:
    """Keep dask and the libraries quiet, in the workers too, and let workers keep the memory they work with."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # read when dask is first imported, and inherited
    warnings.filterwarnings("ignore", module="distributed")  # of a second sweep on this machine: its port is taken
    import dask

    dask.config.set(
        {
            "distributed.nanny.pre-spawn-environ.PYTHONWARNINGS": "ignore",
            **{f"distributed.nanny.pre-spawn-environ.{name}": bytes_ for name, bytes_ in _ALLOCATOR.items()},
            "distributed.admin.large-graph-warning-threshold": "1GB",  # controllers travel with the tasks
        }
    )
