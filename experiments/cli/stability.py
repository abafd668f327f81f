"""``stability``: how far one may prune before the loop is no longer stable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import (
    Allocation,
    Grouping,
    Importance,
    Json,
    Recovery,
    Seed,
    Task,
    Trust,
    columns,
    emit,
    progress,
    say,
    there,
)

if TYPE_CHECKING:
    import pandas as pd

    from prunectl.experiments.stability.measure import Candidate, Family


def stability(
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CKPT...", callback=there, help="The dense controller, then pruned ones of it."),
    ],
    task: Task = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="A new folder for tables and figures.")
    ] = None,
    sparsities: Annotated[
        str | None, typer.Option(metavar="S,S,...", help="Prune the one CKPT to these sparsities here and now.")
    ] = None,
    grouping: Grouping = None,
    importance: Importance = None,
    allocation: Allocation = "uniform",
    recovery: Recovery = None,
    starts: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Independent starts of each check.  (100; planners: 60)")
    ] = None,
    grid: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Initial states an axis, 0 for no picture.  (21; planners: 7)"),
    ] = None,
    robust: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Episodes of each disturbance, 0 for none.  (60; planners: 10)"),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Measure whether a loop stays stable as its controller is pruned, and how far that is safe.

    Measured, never proven: failures are counted over independent starts and bounded at 95% confidence.
    """
    import errno
    from dataclasses import replace

    if sparsities is not None and len(checkpoints) > 1:
        raise typer.BadParameter("--sparsities prunes one controller: give one CKPT, the dense one")
    asked = [] if sparsities is None else _sparsities(sparsities)  # before anything heavy is imported

    from prunectl.envs import plants
    from prunectl.experiments.api.subject import subject_of
    from prunectl.experiments.stability import family_tables
    from prunectl.experiments.stability.measure import Candidate, Effort, family, smaller_than

    if out is not None and out.exists():
        raise FileExistsError(errno.EEXIST, "it is there already: choose another name", str(out))
    first = subject_of(checkpoints[0], task, trust)
    loaded, today = first.loaded, first.task
    plant = plants.plant(today)
    given = {"starts": starts, "grid": grid, "robust": robust}
    effort = replace(Effort.of(loaded.controller), **{key: n for key, n in given.items() if n is not None})
    dense = Candidate(loaded.name, loaded.controller)
    smaller = [subject_of(reference, today, trust).loaded for reference in checkpoints[1:]]
    candidates = [dense, *(smaller_than(dense, each.name, each.controller) for each in smaller)]
    if asked:
        candidates += _pruned(dense, today, asked, (grouping, importance, allocation, recovery), seed)
    with progress("stability") as told:
        found = family(plant, candidates, effort, seed, told)
    if out is not None:
        _write(found, out)
    if as_json:
        emit(family_tables.as_json(found))
        return
    print(_text(family_tables.readable(found)))
    if effort.robust:
        print(f"\nreturn (share of {effort.robust} episodes stabilised)")
        print(_text(family_tables.readable_robustness(found)))
    print(f"\n{family_tables.verdict(found)}")


def _sparsities(text: str) -> list[float]:
    from prunectl.pruning import check_sparsity

    try:
        asked = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise typer.BadParameter(f"--sparsities {text}: write them as 0.5,0.8,0.9") from error
    for sparsity in asked:
        check_sparsity(sparsity)
    return asked


def _pruned(
    dense: Candidate,
    task: str,
    sparsities: list[float],
    names: tuple[str | None, str | None, str, str | None],
    seed: int,
) -> list[Candidate]:
    """The dense controller pruned to each sparsity, by one method, on one calibration."""
    from prunectl.experiments.episodes.calibration import calibrate
    from prunectl.experiments.episodes.task_loop import TaskLoop
    from prunectl.experiments.stability.measure import smaller_than
    from prunectl.pruning import Method, prune

    method = Method.asked(*names)
    calibration = calibrate(dense.controller, task, seed)
    found = []
    with progress(method.label) as told:
        for done, sparsity in enumerate(sparsities):
            loop = TaskLoop(task, seed)
            pruned = prune(dense.controller, method, sparsity, calibration, seed=seed, loop=loop)
            found.append(smaller_than(dense, f"pruned {sparsity:g}", pruned.controller))
            told((done + 1) / len(sparsities))
    return found


def _write(found: Family, out: Path) -> None:
    """Tables, figures, and a record of everything with the command that made it."""
    from prunectl.experiments import provenance
    from prunectl.experiments.drawing.tables import write_file, write_table
    from prunectl.experiments.jsontext import json_text
    from prunectl.experiments.stability import family_figures, family_tables

    out.mkdir(parents=True)
    verdict = family_tables.verdict(found)
    write_table(family_tables.overview(found), out / "stability", remark=verdict, shown=family_tables.readable(found))
    if found.effort.robust:
        write_table(family_tables.robustness(found), out / "robustness", shown=family_tables.readable_robustness(found))
    record = provenance.record() | family_tables.as_json(found)
    write_file(out / "stability.json", lambda target: target.write_text(json_text(record, 1) + "\n"))
    family_figures.draw(found, out)
    say(f"tables and figures are in {out}")


def _text(table: pd.DataFrame) -> str:
    return columns([list(table.columns), *table.to_numpy().tolist()])
