"""`sweep` and `report`: many cells, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prunectl.experiments.api.calling import Progress, log, on_one_thread
from prunectl.experiments.report.write import write_report
from prunectl.experiments.sweeping.bundled import config_path, name_of
from prunectl.experiments.sweeping.cell import Cell
from prunectl.experiments.sweeping.config import ConfigError, SweepConfig, config_of, load_config
from prunectl.experiments.sweeping.run import Shown, chosen_workers, completed


@on_one_thread
def sweep(
    config: SweepConfig | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: int | None = None,
    trust: bool = False,
    allow_plugins: bool = False,
    progress: Progress = False,
) -> pd.DataFrame:
    """Prune and measure every combination that a config names; the same call goes on where it stopped.

    Args:
        config: a sweep as a mapping, a YAML file's path, or a bundled one's short name (``prunectl sweep --list``).
        out: the folder of its store and exports; by default ``out/`` and the config's name.
        workers: worker processes of this machine; by default one a core.
        scheduler: the address of a dask cluster to compute on instead.
        slurm: so many workers as SLURM jobs instead.
        trust: see `load`.
        allow_plugins: import the modules that the config names (``plugins:``, ``module:name``, a task's ``module:Id``):
            they can run any code.
        progress: ``True`` for a bar, or a function that is told the share of the cells done.

    Returns:
        A row a cell, failed ones included, as ``results.csv`` has it.

    Raises:
        Error: a config that cannot be carried out; the line says which key. Or the cluster is gone.

    Example:
        >>> import prunectl
        >>> table = prunectl.sweep(
        ...     {
        ...         "controllers": "ppo-cartpole",
        ...         "methods": {"recovery": ["none", "reconstruct"]},
        ...         "sparsities": 0.9,
        ...         "episodes": 5,
        ...     },
        ...     out="out/example",
        ...     workers=1,
        ... )
        >>> table[["recovery", "sparsity_asked", "status"]].fillna("dense").to_numpy().tolist()
        [['dense', 0.0, 'done'], ['none', 0.9, 'done'], ['reconstruct', 0.9, 'done']]
    """
    settings, name = settings_of(config, allow_plugins)
    if out is None and name is None:
        raise ConfigError("a sweep given as data has no name: say where its results go with out=...")
    folder = Path("out") / str(name) if out is None else Path(out)
    chosen = chosen_workers(settings, workers, scheduler, slurm)
    with completed(settings, folder, folder, chosen, log.info, _shown(progress), trust) as (store, _, failures):
        for failure in failures:
            log.warning(f"failed: {failure.cell}: {failure.error}")
        return store.results()


def settings_of(
    config: SweepConfig | Mapping[str, Any] | str | Path, allow_plugins: bool = False
) -> tuple[SweepConfig, str | None]:
    """A sweep's settings, checked, and its name where it has one.

    Raises:
        ConfigError: a value out of range, an unknown key or name.
        OSError: no such file, and no bundled config of that name.
    """
    if isinstance(config, SweepConfig):
        return config, None
    if isinstance(config, Mapping):
        return config_of(config, "config", allow_plugins), None
    path = config_path(config)
    return load_config(path, allow_plugins), name_of(path)


@dataclass(frozen=True)
class Report:
    """What `report` wrote: the files, and the summary as a table and as text."""

    files: tuple[Path, ...]
    summary: pd.DataFrame
    text: str

    def __str__(self) -> str:
        return self.text


@on_one_thread
def report(folder: str | Path) -> Report:
    """Make figures, tables with 95% intervals, a ranking and ``report.html`` from a sweep's store alone.

    Args:
        folder: the sweep's folder.

    Raises:
        Error: there is no store, or nothing in it to report.

    Example:
        >>> import prunectl
        >>> print(prunectl.report("out/example"))  # doctest: +SKIP
    """
    files, text = write_report(Path(folder))
    return Report(tuple(files), pd.read_csv(Path(folder) / "summary.csv"), text)


def _shown(progress: Progress) -> Shown:
    if progress is True:
        return bar

    @contextmanager
    def told(total: int, done: int) -> Iterator[Callable[[Cell], None]]:
        ended = done

        def advance(cell: Cell) -> None:
            nonlocal ended
            ended += 1
            if callable(progress):
                progress(ended / total)

        yield advance

    return told


@contextmanager
def bar(total: int, done: int) -> Iterator[Callable[[Cell], None]]:
    """A bar with the time left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=total, completed=done)
        yield lambda cell: bars.advance(task)
