"""``reproduce``: the paper's figures and tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import Workers, columns, say
from prunectl.names import check_name

if TYPE_CHECKING:
    from prunectl.experiments.sweeping.cell import Failure, Work
    from prunectl.experiments.sweeping.config import SweepConfig
    from prunectl.experiments.sweeping.store import Store


def _known(names: list[str] | None) -> list[str] | None:
    """Refuse names of no reproduction."""
    for name in names or ():
        check_name("reproduction", name)
    return names


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", callback=_known, help="Which, or all; without a name they are listed."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer trainings, sparsities and episodes: minutes.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where results go; default: out/paper or out/paper-quick."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compute a sample of the published cells anew and compare; nothing is drawn."),
    ] = False,
    workers: Workers = None,
) -> None:
    """Compute, draw and tabulate what the paper shows. The same command goes on where it stopped."""
    import torch

    from prunectl.experiments.api.sweeps import bar
    from prunectl.experiments.cli.sweeps import stopping
    from prunectl.experiments.paper.reproductions import CATALOGUE, chosen, config_of
    from prunectl.experiments.paper.reproductions import reproduce as make
    from prunectl.experiments.sweeping.run import chosen_workers, completed

    if not names:
        print(columns([[entry.name, entry.summary] for entry in CATALOGUE]))
        return
    torch.set_num_threads(1)
    if check:
        _check(names, workers)
        return
    folder = out or Path("out") / ("paper-quick" if quick else "paper")
    failed: list[Failure] = []

    @contextmanager
    def compute(settings: SweepConfig, results: Path) -> Iterator[tuple[Store, Work]]:
        chosen_ones = chosen_workers(settings, workers)
        with completed(settings, folder, results, chosen_ones, say, bar) as (store, work, failures):
            failed.extend(failures)
            yield store, work

    for entry in chosen(names):
        say(f"{entry.name}: {entry.summary}")
        with stopping():
            for path in make(entry, config_of(entry, quick), folder / entry.name, compute):
                print(path)
    if failed:
        raise typer.Exit(1)


def _check(names: list[str], workers: int | None) -> None:
    """Print a row a cell of the sample.

    Raises:
        typer.Exit: with status 1, some contradict what was published.
    """
    from prunectl.experiments.paper.reproductions import chosen, config_of
    from prunectl.experiments.sweeping.agreement import leaning
    from prunectl.experiments.sweeping.config import load_config
    from prunectl.experiments.sweeping.expand import load_work
    from prunectl.experiments.sweeping.recheck import compare, published, sample
    from prunectl.experiments.sweeping.workers import local_workers

    wrong = 0
    for entry in chosen(names):
        results = published(entry.name)
        work = sample(load_work(load_config(config_of(entry, quick=False)), trust=False, remark=say), results)
        say(f"{entry.name}: {len(work.cells)} of {len(results.table)} published cells")
        with local_workers(workers) as client:
            compared = compare(work, results, client)
        rows = [[str(cell), f"{one.published:.6g}", f"{one.found:.6g}", one.verdict] for cell, one in compared]
        print(columns([["cell", "published", "found", ""], *rows]))
        found = [one for _, one in compared]
        equal, contradicted, ahead = (
            sum(not one.differing for one in found),
            sum(bool(one.contradicted) for one in found),
            leaning(found),
        )
        print(
            f"{equal} of {len(found)} equal what was published, to the last bit, "
            f"{len(found) - equal - contradicted} show no difference, {contradicted} differ"
        )
        if ahead:
            print(f"in the mean of these cells the published normalised return is {ahead:+.3f} beside what was found")
        wrong += contradicted + bool(ahead)
    if wrong:
        say("not what was published: another version of a package? provenance.json has those that were used")
        raise typer.Exit(1)
