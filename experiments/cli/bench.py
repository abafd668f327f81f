"""``bench``: the speed table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import columns, known, listed, say, there
from prunectl.names import check_name

if TYPE_CHECKING:
    from prunectl.experiments.bench.timing import Section


def _known(names: list[str] | None) -> list[str] | None:
    """Refuse names of no benchmark, and behind ``latency`` those of no checkpoint."""
    if names and names[0] == "latency":
        there(names[1:])
    else:
        for name in names or ():
            check_name("benchmark", name)
    return names


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            callback=_known,
            help=f"{listed('benchmark')}; without a name all of them. latency CKPT...: of these checkpoints, each "
            "against the first.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="NAME",
            callback=known("target"),
            help="latency CKPT... on a microcontroller, emulated: flash, RAM and instructions a decision, the same at "
            "every run. cortex-m4, cortex-m0plus, esp32-c3.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Also write JSON there, and a page of tables (.md) beside it."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace them if they are there.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and sizes, for a trial.")] = False,
) -> None:
    """Measure speed and memory against rivals, side by side, and print the ratios and whether targets are held."""
    import torch

    from prunectl.experiments.api.files import check_output
    from prunectl.experiments.bench.benchmarks import chosen, write_results
    from prunectl.experiments.drawing.tables import texts
    from prunectl.experiments.sweeping.config import ConfigError

    entries = chosen(names or [], target)
    if out is not None:
        if out.suffix == ".md":
            raise ConfigError(f"{out}: that is the name of the page: name the JSON file, as bench.json")
        for path in (out, out.with_suffix(".md")):
            check_output(path, force)
    torch.set_num_threads(1)
    found: dict[str, list[Section]] = {}
    for entry in entries:
        say(f"{entry.name}: {entry.summary}")
        found[entry.name] = entry.measure(quick)
        for section in found[entry.name]:
            print(f"{section.title}\n{columns(texts(section.table, section.formats))}\n{section.remark}\n", flush=True)
        if out is not None:  # after each, so that one that fails takes nothing with it
            write_results(out, found, quick)
