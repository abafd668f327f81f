"""``sweep`` and ``report``: many cells, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.common import Trust, say

if TYPE_CHECKING:
    from experiments.config import SweepConfig
    from experiments.store import Store
    from experiments.sweep import Failure, ToDo, Work


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and an estimate, compute nothing.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Prune and measure every combination that a config names. The same command goes on where it stopped."""
    import torch

    from experiments.config import ConfigError, load_config
    from experiments.sweep import load_work

    if workers and scheduler:
        raise ConfigError("--workers and --scheduler exclude each other: a running cluster has its own workers")
    torch.set_num_threads(1)
    settings = load_config(config)
    folder = out or Path("out") / config.stem
    if dry_run:
        _list_cells(load_work(settings, trust, say), folder, workers)
        return
    with completed(settings, folder, folder, workers, scheduler, trust) as (_, _, failures):
        pass
    if failures:
        raise typer.Exit(1)
    print(folder / "results.csv")


@contextmanager
def completed(
    settings: SweepConfig,
    folder: Path,
    results: Path,
    workers: int | None = None,
    scheduler: str | None = None,
    trust: bool = False,
) -> Iterator[tuple[Store, Work, list[Failure]]]:
    """Compute what of a sweep the store in ``folder`` lacks, and give the store, still open, with all that failed.

    The record of the sweep and the exports go to ``results``.
    """
    from experiments.store import Store
    from experiments.sweep import load_work, still_to_do, write_record

    with Store.writing(folder) as store:
        work = load_work(settings, trust, say)
        results.mkdir(parents=True, exist_ok=True)
        write_record(results, settings, work)
        to_do = still_to_do(work, store)
        total, left = len(work.cells), len(to_do.cells)
        say(f"{total} cells, {total - left} done already, results go to {results}")
        try:
            failures = _compute(work, to_do, store, workers, scheduler) if to_do else []
        except KeyboardInterrupt:
            left = len(still_to_do(work, store).cells)
            say(f"stopped: {total - left} of {total} cells are done; the same command goes on from here")
            raise typer.Exit(1) from None
        finally:
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
    from experiments.report import write_report

    files, summary = write_report(folder)
    print(summary)
    for path in files:
        say(str(path))


def _compute(work: Work, to_do: ToDo, store: Store, workers: int | None, scheduler: str | None) -> list[Failure]:
    from experiments.sweep import run
    from experiments.workers import local_workers, remote_workers

    total = len(work.cells)
    with (
        remote_workers(scheduler) if scheduler else local_workers(workers) as client,
        _progress(total, total - len(to_do.cells)) as advance,
    ):
        try:
            return run(work, to_do, store, client, lambda cell: advance())
        except KeyboardInterrupt:
            say("stopping the workers")
            raise


def _list_cells(work: Work, folder: Path, workers: int | None) -> None:
    import os

    from experiments.store import FILE, Store
    from experiments.sweep import estimate

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
