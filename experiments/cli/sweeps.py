"""``sweep`` and ``report``: many cells, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import Trust, say

if TYPE_CHECKING:
    from distributed import Client

    from prunectl.experiments.sweeping.cell import Failure, ToDo, Work
    from prunectl.experiments.sweeping.config import SweepConfig
    from prunectl.experiments.sweeping.store import Store


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to compute.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where results go; default: out/ and CONFIG's name.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Worker processes; default: one a core.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Use the workers of a running dask cluster.")
    ] = None,
    slurm: Annotated[
        int | None, typer.Option("--slurm", min=1, metavar="N", help="Start N workers as SLURM jobs (dask-jobqueue).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and an estimate, compute nothing.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Prune and measure every combination that a config names. The same command goes on where it stopped."""
    import torch

    from prunectl.experiments.sweeping.config import ConfigError, load_config
    from prunectl.experiments.sweeping.expand import load_work

    if sum(choice is not None for choice in (workers, scheduler, slurm)) > 1:
        raise ConfigError("--workers, --scheduler and --slurm exclude each other: they say where the workers are")
    torch.set_num_threads(1)
    settings = load_config(config)
    if scheduler is None and slurm is None and any(entry.resources for entry in settings.controllers):
        raise ConfigError("resources: the workers of this machine offer none: join a cluster with --scheduler")
    folder = out or Path("out") / config.stem
    if dry_run:
        _list_cells(load_work(settings, trust, say), folder, workers)
        return
    with completed(settings, folder, folder, chosen_workers(workers, scheduler, slurm), trust) as (_, _, failures):
        pass
    if failures:
        raise typer.Exit(1)
    print(folder / "results.csv")


@contextmanager
def completed(
    settings: SweepConfig,
    folder: Path,
    results: Path,
    workers: AbstractContextManager[Client],
    trust: bool = False,
) -> Iterator[tuple[Store, Work, list[Failure]]]:
    """Compute what of a sweep the store in ``folder`` lacks, and give the store, still open, with all that failed.

    The record of the sweep and the exports go to ``results``.
    """
    from prunectl.envs import TaskError
    from prunectl.experiments.sweeping.dispatch import ClusterError
    from prunectl.experiments.sweeping.expand import load_work, still_to_do, write_record
    from prunectl.experiments.sweeping.store import Store

    work = load_work(settings, trust, say)
    with Store.writing(folder) as store:
        to_do = still_to_do(work, store)
        total, left = len(work.cells), len(to_do.cells)
        try:
            with workers if to_do else nullcontext() as client:
                results.mkdir(parents=True, exist_ok=True)
                write_record(results, settings, work)
                say(f"{total} cells, {total - left} done already, results go to {results}")
                failures = _compute(work, to_do, store, client) if client else []
        except TaskError:
            store.export(results)  # of all else
            raise
        except (ClusterError, KeyboardInterrupt) as error:
            left = len(still_to_do(work, store).cells)
            why = "stopped" if isinstance(error, KeyboardInterrupt) else f"prunectl: {error}"
            say(f"{why}: {total - left} of {total} cells are done; the same command goes on from here")
            store.export(results)
            raise typer.Exit(1) from None
        store.export(results)
        for failure in failures:
            say(f"failed: {failure.cell}: {failure.error}")
        if failures:
            say(f"{len(failures)} of {total} cells failed; the same command tries them again")
        yield store, work, failures


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder.")],
) -> None:
    """Make figures, the summary table and a page from a sweep's store, and print the summary."""
    from prunectl.experiments.report.write import write_report

    files, summary = write_report(folder)
    print(summary)
    for path in files:
        say(str(path))


def chosen_workers(
    count: int | None, scheduler: str | None = None, slurm: int | None = None
) -> AbstractContextManager[Client]:
    """Processes of this machine unless the user names a cluster; they start when they are entered."""
    from prunectl.experiments.sweeping.workers import local_workers, remote_workers, slurm_workers

    if scheduler is not None:
        return remote_workers(scheduler)
    return slurm_workers(slurm) if slurm else local_workers(count)


def _compute(work: Work, to_do: ToDo, store: Store, client: Client) -> list[Failure]:
    from prunectl.experiments.sweeping.dispatch import run

    total = len(work.cells)
    if not client.nthreads():
        say("no worker is there yet: waiting for the first")
    if client.dashboard_link and client.scheduler_info()["services"]:
        say(f"dashboard: {client.dashboard_link}")
    with _progress(total, total - len(to_do.cells)) as advance:
        try:
            return run(work, to_do, store, client, lambda cell: advance())
        except KeyboardInterrupt:
            say("stopping the workers")
            raise


def _list_cells(work: Work, folder: Path, workers: int | None) -> None:
    import os

    from prunectl.experiments.sweeping.expand import estimate
    from prunectl.experiments.sweeping.store import FILE, Store

    done: set[str] = set()
    measured: dict[str, float] = {}
    if (folder / FILE).is_file():
        with Store.reading(folder) as store:
            done, measured = store.done(), store.seconds_by_task()
    for cell in work.cells:
        print(f"{'done ' if cell.key in done else 'to do'}  {cell}")
    missing = [cell for cell in work.cells if cell.key not in done]
    count = workers or os.cpu_count() or 1
    minutes = estimate(missing, measured, count) / 60
    print(f"{len(work.cells)} cells, {len(missing)} to do: about {minutes:.1f} min on {count} workers")


@contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left, on standard error; calling what it gives moves it by one cell."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)
