"""``suite``: the benchmark suite, on which a method of one's own meets those that are published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunectl.experiments.cli.common import Scheduler, Slurm, Workers, columns, known, listed, say

app = typer.Typer(no_args_is_help=True, help="Fixed controllers, tasks and seeds on which pruning methods meet.")

TierName = Annotated[str, typer.Option("--tier", metavar="TIER", callback=known("tier"), help=f"{listed('tier')}.")]


@app.command()
def run(
    tier: TierName = "quick",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAMES",
            help="A method by those of its four names that differ from component, surgeon, uniform, distill, with "
            "commas between, as mine:Mine,reconstruct or importance=random; may be repeated. Default: those published.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The entry's folder; default: under out/suite-1.")
    ] = None,
    cite: Annotated[str, typer.Option("--cite", metavar="TEXT", help="Whose the method is, for the board.")] = "",
    workers: Workers = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> None:
    """Compute methods on a tier, and hold them against those that are published. It goes on where it stopped."""
    import torch

    from prunectl.experiments.api.sweeps import bar
    from prunectl.experiments.cli.sweeps import stopping
    from prunectl.experiments.provenance import command_line
    from prunectl.experiments.suite.entry import Entry, write_entry
    from prunectl.experiments.suite.tiers import SUITE, method_names, settings_of, tier_of
    from prunectl.experiments.sweeping.run import chosen_workers, completed

    chosen, said = tier_of(tier), method or []
    names = tuple(method_names(one) for one in said)
    settings = settings_of(chosen, names, allow_plugins=True)  # typed on the command line: the user's word
    folder = out or Path("out") / SUITE / "-".join([chosen.name, *(_in_a_name(one) for one in said)])
    torch.set_num_threads(1)
    write_entry(folder, Entry(chosen, names, command_line(), cite))
    ready = chosen_workers(settings, workers, scheduler, slurm)
    with stopping(), completed(settings, folder, folder, ready, say, bar):  # a cell that fails is told, and counts
        pass
    print(folder / "results.csv")
    if names:
        _against_published(chosen.name, folder)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The entry's folder.")],
    cells: Annotated[
        int | None, typer.Option("--cells", min=1, metavar="N", help="Pruned cells of the sample; default: 24.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Compute every cell anew.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Of the random half; default: drawn, and told.")
    ] = None,
    workers: Workers = None,
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Import the modules that the entry names: they can run any code.")
    ] = False,
) -> None:
    """Compute a sample of somebody's entry anew. Exit status 1: it does not hold."""
    import secrets

    import torch

    from prunectl.experiments.suite.verify import CELLS
    from prunectl.experiments.suite.verify import verify as verified
    from prunectl.experiments.sweeping.workers import local_workers

    torch.set_num_threads(1)
    drawn = secrets.randbelow(2**31) if seed is None else seed
    if not every:
        say(f"the sample's seed is {drawn}")
    with local_workers(workers) as client:
        found = verified(folder, client, None if every else cells or CELLS, drawn, allow_plugins, say)
    print(found)
    if found.wrong:
        say("another version of a package may compute it otherwise: provenance.json has those that were used")
        raise typer.Exit(1)


@app.command()
def board(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where figures, tables and the page go.")],
    entries: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Entries beside those that are published.")
    ] = None,
    tier: TierName = "quick",
) -> None:
    """Rank the methods of all entries of a tier: figures, tables with intervals, and a page."""
    import torch

    from prunectl.experiments.suite.board import published, write_board
    from prunectl.experiments.suite.tiers import tier_of

    torch.set_num_threads(1)
    chosen = tier_of(tier)
    files, text = write_board(chosen, [*published(chosen), *(entries or [])], out)
    print(text)
    for path in files:
        say(str(path))


@app.command("list")
def list_tiers() -> None:
    """List the tiers and how many cells they have."""
    from prunectl.experiments.suite.tiers import SUITE, TIERS

    rows = [[f"{SUITE}/{tier.name}", tier.about] for tier in TIERS.values()]
    print(columns([["tier", "what it is"], *rows]))


def _in_a_name(method: str) -> str:
    """A method as a part of a folder's name."""
    return "".join(character if character.isalnum() or character in "._=" else "-" for character in method)


def _against_published(tier: str, folder: Path) -> None:
    from prunectl.experiments.analysis.comparison import compare
    from prunectl.experiments.suite.board import published
    from prunectl.experiments.suite.tiers import tier_of

    entries = published(tier_of(tier))
    if not entries:
        say("no entry of this tier is published here: in a clone of the repository it is held against those that are")
    for path in entries:
        print(f"\nagainst {path.name}, which is published:\n{compare(folder, path)}")
