"""The processes that sweeps are computed in: workers on this machine, of a cluster that runs already, or SLURM jobs."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prunectl.experiments.provenance import versions
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.registry import Plugin, one_line

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
        ConfigError: no scheduler answers there, or its workers cannot give the numbers that this process would.
    """
    set_up_dask()
    from distributed import Client

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no scheduler answers at '{address}': start one with `dask scheduler`") from error
    except TypeError as error:  # what dask says of TLS without a certificate
        raise ConfigError(
            f"'{address}': this process has no certificate: set dask up for TLS (docs/sweeps.md)"
        ) from error
    with client:
        check_workers(client, client.nthreads())
        yield client


@contextmanager
def slurm_workers(count: int) -> Iterator[Client]:
    """``count`` workers of one core each, as SLURM jobs.

    How a job is asked for (queue, account, walltime, memory, cores and so workers a job) is dask-jobqueue's
    configuration, ``jobqueue.slurm`` in ``~/.config/dask/jobqueue.yaml``.

    Raises:
        ConfigError: dask-jobqueue or SLURM is not installed, or SLURM refuses the jobs.
    """
    set_up_dask()
    import dask
    from distributed import Client

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ConfigError("--slurm needs dask-jobqueue: pip install dask-jobqueue") from error
    if shutil.which("sbatch") is None:
        raise ConfigError("--slurm: there is no sbatch here: run it where SLURM jobs can be submitted")
    cores = dask.config.get("jobqueue.slurm.cores", None) or 1
    memory = dask.config.get("jobqueue.slurm.memory", None) or f"{2 * cores} GiB"
    try:
        cluster = SLURMCluster(cores=cores, processes=cores, memory=memory)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--slurm: {one_line(error)}") from error
    with cluster, Client(cluster) as client:
        cluster.adapt(minimum=count, maximum=count)  # `scale` would not replace jobs whose time is up
        yield client


def check_workers(client: Client, threads: Mapping[str, int], plugins: Sequence[Plugin] = ()) -> None:
    """Bit for bit the same numbers come from one thread a process and the same packages and plug-ins alone.

    Args:
        client: the cluster.
        threads: the workers to check, by address: how many threads each has.
        plugins: what they need besides prunectl.

    Raises:
        ConfigError: a worker has several threads, or other packages or plug-ins than this process.
    """
    if crowded := [address for address, count in threads.items() if count > 1]:
        raise ConfigError(
            f"worker {crowded[0]} computes several cells in one process: "
            "start it as `dask worker ADDRESS --nthreads 1 --nworkers N`"
        )
    ours = versions()
    found = client.run(versions, workers=list(threads), on_error="return") if threads else {}
    for address, theirs in found.items():
        if isinstance(theirs, OSError):  # it died; what comes in its place is checked then
            continue
        if isinstance(theirs, Exception):
            raise ConfigError(
                f"worker {address} cannot import prunectl, install it there as it is here "
                f"({type(theirs).__name__}: {theirs})"
            )
        for package, version in ours.items():
            if theirs.get(package) != version:
                raise ConfigError(
                    f"worker {address} has {package} {theirs.get(package)}, this process {version}: "
                    "install the same there, or the numbers differ"
                )
    if plugins and threads:
        from prunectl.plugins import complaint

        for address, said in client.run(complaint, plugins, workers=list(threads), on_error="return").items():
            if isinstance(said, str):
                raise ConfigError(f"worker {address}: {said}")


def set_up_dask() -> None:
    """Keep dask and the libraries quiet, in the workers too, and let workers keep the memory they work with."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # read when dask is first imported, and inherited
    warnings.filterwarnings("ignore", module="distributed")  # of a second sweep on this machine: its port is taken
    import dask
    import distributed  # noqa: F401, sets the loggers' levels

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # of its own; a lost scheduler is told in a line
    dask.config.set(
        {
            "distributed.nanny.pre-spawn-environ.PYTHONWARNINGS": "ignore",
            **{f"distributed.nanny.pre-spawn-environ.{name}": bytes_ for name, bytes_ in _ALLOCATOR.items()},
            # A second death makes a suspect, which is computed again on its own (`dispatch.run`).
            "distributed.scheduler.allowed-failures": 1,
            "distributed.admin.large-graph-warning-threshold": "1GB",  # controllers travel with the tasks
        }
    )
