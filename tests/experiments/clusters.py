"""A real scheduler and real workers, as processes of their own on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

#: The command line, as another process runs it.
COMMAND = [sys.executable, "-c", "from prunectl.experiments.cli import main; main()"]


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where its scheduler listens, and that process."""

    address: str
    scheduler: subprocess.Popen[bytes]


@contextmanager
def cluster(folder: Path, workers: int, *options: str) -> Iterator[Cluster]:
    """A scheduler, and ``workers`` worker processes with a nanny each."""
    where = folder / f"scheduler-{time.monotonic_ns()}.json"
    with _process("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where)) as scheduler:
        deadline = time.monotonic() + 60
        while not where.is_file() or not where.read_text():
            assert scheduler.poll() is None, "the scheduler did not start"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        address = str(json.loads(where.read_text())["address"])
        with worker(address, "--nworkers", str(workers), *options):
            yield Cluster(address, scheduler)


@contextmanager
def worker(address: str, *options: str) -> Iterator[None]:
    """Worker processes of one thread each, unless the options say otherwise."""
    with _process("dask_worker", address, "--nthreads", "1", "--local-directory", gettempdir(), *options):
        yield


@contextmanager
def _process(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.{program}", "--no-dashboard", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)
