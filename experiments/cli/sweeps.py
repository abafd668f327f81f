"""``sweep`` and ``report``: many cells, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import Scheduler, Slurm, Trust, Workers, columns, say

if TYPE_CHECKING:
    from prunectl.experiments.sweeping.cell import Work


def sweep(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="What to compute: a .yaml file, or a bundled one's name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where results go; default: out/ and CONFIG's name.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and an estimate, compute nothing.")
    ] = False,
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Import the modules that CONFIG names: they can run any code.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the sweeps that come with prunectl.")] = False,
    trust: Trust = False,
) -> None:
    """Prune and measure every combination that a config names. The same command goes on where it stopped."""
    from prunectl.experiments.sweeping.bundled import bundled_configs, check_names, config_path

    if list_:
        rows = [[name, _first_line(path)] for name, path in bundled_configs().items()]
        print(columns([["sweep", "what it is"], *rows]))
        return
    if config is None:
        raise typer.BadParameter("name a CONFIG.yaml, or a bundled sweep (`prunectl sweep --list`)")
    path = config_path(config)
    check_names(path)  # before anything heavy is imported

    import torch

    from prunectl.experiments.api.sweeps import bar, settings_of
    from prunectl.experiments.sweeping.expand import load_work
    from prunectl.experiments.sweeping.run import chosen_workers, completed

    torch.set_num_threads(1)
    settings, name = settings_of(path, allow_plugins)
    chosen = chosen_workers(settings, workers, scheduler, slurm)
    folder = out or Path("out") / str(name)
    if dry_run:
        _list_cells(load_work(settings, trust, say), folder, workers)
        return
    with stopping(), completed(settings, folder, folder, chosen, say, bar, trust) as (_, _, failures):
        pass
    if failures:
        raise typer.Exit(1)
    print(folder / "results.csv")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder.")],
) -> None:
    """Make figures, the summary table and a page from a sweep's store, and print the summary."""
    from prunectl.experiments.sweeping.connection import check_there

    check_there(folder)  # before anything heavy is imported

    from prunectl.experiments.api.sweeps import report as make

    made = make(folder)
    print(made)
    for path in made.files:
        say(str(path))


@contextmanager
def stopping() -> Iterator[None]:
    """A sweep that was interrupted, or whose cluster is gone, has said so: what is left is the exit status 1."""
    from prunectl.experiments.sweeping.dispatch import ClusterError

    try:
        yield
    except (ClusterError, KeyboardInterrupt):
        raise typer.Exit(1) from None


def _first_line(path: Path) -> str:
    """What a bundled config says of itself in its first comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[0].removeprefix("#").strip() if lines and lines[0].startswith("#") else ""


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
