"""Carrying out a whole sweep: what its store lacks is computed, and the record and the exports lie beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from prunectl.envs import TaskError
from prunectl.experiments import provenance
from prunectl.experiments.sweeping.cell import Cell, Failure, ToDo, Work
from prunectl.experiments.sweeping.config import ConfigError, SweepConfig
from prunectl.experiments.sweeping.dispatch import ClusterError, run
from prunectl.experiments.sweeping.expand import lacking, load_work, still_to_do, write_record
from prunectl.experiments.sweeping.store import FILE, Store
from prunectl.experiments.sweeping.workers import local_workers, remote_workers, slurm_workers

if TYPE_CHECKING:
    from distributed import Client

#: Given how many cells there are and how many of them are done: what is called with every cell that has ended.
Shown = Callable[[int, int], AbstractContextManager[Callable[[Cell], None]]]


@contextmanager
def completed(
    settings: SweepConfig,
    folder: Path,
    results: Path,
    workers: AbstractContextManager[Client],
    remark: Callable[[str], None],
    shown: Shown,
    trust: bool = False,
) -> Iterator[tuple[Store, Work, list[Failure]]]:
    """Compute what of a sweep the store in ``folder`` lacks, and give the store, still open, with all that failed.

    Args:
        settings: the sweep.
        folder: where its store is or comes to be.
        results: where the record of the sweep and the exports go.
        workers: what computes; entered only if there is something to do.
        remark: told what the user should know, a line at a time.
        shown: how far it is.
        trust: unpickle what the checkpoints hold, on the user's word.

    Raises:
        ConfigError: the results would lie beside a ``config.yaml`` that is no sweep's record.
        ClusterError: the scheduler is gone. What was computed is in the store and exported, as after an interrupt.
        TaskError: a random reference cannot be measured; raised when all else is done.
    """
    foreign = results / "config.yaml"
    if foreign.exists() and not (folder / FILE).exists() and not (results / provenance.FILE).exists():
        raise ConfigError(f"{foreign}: it is no sweep's record, which would take its place: choose another folder")
    work = load_work(settings, trust, remark)
    with Store.writing(folder) as store:
        to_do = lacking(work, store)
        total, left = len(work.cells), len(to_do.cells)
        try:
            with workers if to_do else nullcontext() as client:
                store.plan(work.cells)  # not before: where there are no workers, all stays as it was
                results.mkdir(parents=True, exist_ok=True)
                if (other := write_record(results, settings, work, bool(to_do))) is not None:
                    remark(other)
                remark(f"{total} cells, {total - left} done already, results go to {results}")
                failures = _compute(work, to_do, store, client, remark, shown) if client else []
        except TaskError:
            store.export(results)  # of all else
            raise
        except (ClusterError, KeyboardInterrupt) as error:
            left = len(still_to_do(work, store).cells)
            why = "stopped" if isinstance(error, KeyboardInterrupt) else f"prunectl: {error}"
            remark(f"{why}: {total - left} of {total} cells are done; the same command goes on from here")
            store.export(results)
            raise
        store.export(results)
        for failure in failures:
            remark(f"failed: {failure.cell}: {failure.error}")
        if failures:
            remark(f"{len(failures)} of {total} cells failed; the same command tries them again")
        yield store, work, failures


def chosen_workers(
    settings: SweepConfig, count: int | None = None, scheduler: str | None = None, slurm: int | None = None
) -> AbstractContextManager[Client]:
    """Processes of this machine unless the user names a cluster; they start when they are entered.

    Raises:
        ConfigError: several are named, or resources are asked for that this machine's workers do not offer.
    """
    if sum(choice is not None for choice in (count, scheduler, slurm)) > 1:
        raise ConfigError("--workers, --scheduler and --slurm exclude each other: they say where the workers are")
    if scheduler is not None:
        return remote_workers(scheduler)
    if slurm is not None:
        return slurm_workers(slurm)
    if any(entry.resources for entry in settings.controllers):
        raise ConfigError("resources: the workers of this machine offer none: join a cluster with --scheduler")
    return local_workers(count)


def _compute(
    work: Work, to_do: ToDo, store: Store, client: Client, remark: Callable[[str], None], shown: Shown
) -> list[Failure]:
    total = len(work.cells)
    if not client.nthreads():
        remark("no worker is there yet: waiting for the first")
    if client.dashboard_link and client.scheduler_info()["services"]:
        remark(f"dashboard: {client.dashboard_link}")
    with shown(total, total - len(to_do.cells)) as advance:
        try:
            return run(work, to_do, store, client, advance)
        except KeyboardInterrupt:
            remark("stopping the workers")
            raise
