"""``inspect``, ``prune``, ``evaluate`` and ``train``: one controller at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.errors import Error
from prunectl.experiments.cli.common import (
    Allocation,
    Checkpoint,
    Grouping,
    Importance,
    Inputs,
    Json,
    Normalisation,
    Recovery,
    Seed,
    Task,
    TimeFeature,
    Trust,
    emit,
    known,
    known_task,
    listed,
    rows_of,
    say,
    there_or_random,
)
from prunectl.experiments.episodes.seeds import MOST_EPISODE_SEED
from prunectl.references import RANDOM

if TYPE_CHECKING:
    from prunectl.agents import Loaded
    from prunectl.pruning.graph import ComponentGraph
    from prunectl.pruning.plan import PruningPlan


def inspect(
    checkpoint: Checkpoint,
    task: Task = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="OUT", help="Draw them too: OUT.pdf and OUT.png, dense beside pruned."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    normalisation: Normalisation = None,
    time_feature: TimeFeature = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Show a controller's components, its flows, and the groups of units that must go together."""
    from prunectl.experiments.api.controllers import trace
    from prunectl.experiments.api.files import check_output
    from prunectl.experiments.api.subject import subject_of
    from prunectl.experiments.episodes.evaluator import environments
    from prunectl.experiments.provenance import plan_of

    if figure is not None:
        figure = figure.with_suffix("") if figure.suffix in (".pdf", ".png") else figure
        for ending in (".pdf", ".png"):
            check_output(figure.with_name(figure.name + ending), force)
    subject = subject_of(checkpoint, task, trust, normalisation, time_feature, needed=False)
    loaded, today = subject.loaded, None if subject.place is None else subject.task
    if today is not None:
        try:
            with environments(today, 1, loaded.controller):
                pass
        except Error as error:  # there is as much to see
            say(str(error))
    try:
        plan = plan_of(loaded)
    except Error:
        if figure is not None:
            raise
        plan = None  # there is as much to see
    graph = trace(loaded.controller, observed=plan is not None and plan.observed)
    if figure is not None:
        _draw(loaded, graph, plan, figure)
    if not as_json:
        print(f"{loaded.name} ({today or 'task unknown'}), a {loaded.controller.algorithm} controller\n{graph}")
        return
    components = loaded.controller.components.values()
    emit(
        {
            "checkpoint": checkpoint,
            "task": today,
            "algorithm": loaded.controller.algorithm,
            "params": loaded.controller.parameters(),
            "components": {c.name: {"params": c.parameters, "deployed": c.deployed} for c in components},
            "flows": list(graph.flows),
            "groups": [
                {
                    "name": name,
                    "kind": group.kind,
                    "components": list(group.components),
                    "layers": list(group.layers),
                    "units": group.units,
                    "params_per_unit": graph.params_per_unit(name),
                }
                for name, group in graph.groups.items()
            ],
            "plan": loaded.plan,
        }
    )


def _draw(loaded: Loaded, graph: ComponentGraph, plan: PruningPlan | None, path: Path) -> None:
    from prunectl.experiments.drawing.canvas import save
    from prunectl.experiments.drawing.component_graph import controller_figure
    from prunectl.pruning import PruningError
    from prunectl.pruning.plan import uncut
    from prunectl.pruning.stock import stock_groups

    plan = (plan or uncut(graph)).of_what_is_left
    if plan.kept.keys() != graph.groups.keys() or plan.components.keys() != set(graph.components):
        raise PruningError(f"{loaded.name}: the pruning plan that it holds is not that of its networks")
    for written in save(controller_figure(loaded.name, graph, plan, stock_groups(loaded.controller, graph)), path):
        say(str(written))


def prune(
    checkpoint: Checkpoint,
    sparsity: Annotated[
        str,
        typer.Option(
            "--sparsity",
            metavar="S",
            help="Share of all parameters to remove, as 0.9; of components and flows, as encoder=0.5,flow=0, all else "
            "left whole; or both, as 0.9,critic=0.5; of all that acts, as deployed=0.9; of inputs, as "
            "0.9,observation=0.5.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Where the smaller controller goes.")],
    task: Task = None,
    inputs: Inputs = None,
    grouping: Grouping = None,
    importance: Importance = None,
    allocation: Allocation = "uniform",
    recovery: Recovery = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N|Ts",
            help="How long the recovery may go on. distill and its kin, scratch: batches (24000) or seconds (60s); "
            "finetune, polish: environment steps.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Prune in so many steps, each with scores and a recovery.")
    ] = 1,
    schedule: Annotated[str, typer.Option(help="How the sparsity rises over them: geometric, linear.")] = "geometric",
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    normalisation: Normalisation = None,
    time_feature: TimeFeature = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Make a controller smaller and write it as an ordinary checkpoint."""
    from prunectl.experiments.api.files import check_output
    from prunectl.pruning import Ask, Schedule
    from prunectl.pruning.budget import Budget

    check_output(out, force)  # this and what can be said of numbers before anything heavy is imported
    ask, _ = Ask.parse(sparsity), Schedule(steps, schedule)
    if budget is not None:
        Budget.of(budget)

    from prunectl.experiments.api.calling import log
    from prunectl.experiments.api.controllers import check_method
    from prunectl.experiments.api.controllers import prune as make_smaller
    from prunectl.experiments.api.small import check_ending
    from prunectl.experiments.api.subject import subject_of

    check_method(ask, grouping, importance, allocation, recovery, budget, steps, schedule)
    subject = subject_of(checkpoint, task, trust, normalisation, time_feature)
    check_ending(out, subject.controller)
    rows = rows_of(inputs)
    if sys.stderr.isatty() and rows is None:
        log.info(f"measuring {subject.loaded.name} on {subject.task} ...")
    small = make_smaller(
        subject,
        ask,
        env=task if rows is not None else None,
        inputs=rows,
        grouping=grouping,
        importance=importance,
        allocation=allocation,
        recovery=recovery,
        budget=budget,
        steps=steps,
        schedule=schedule,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    for remark in small.save(out, force):
        say(remark)
    if as_json:
        emit({"checkpoint": str(out), **small.as_json()})
    else:
        print(f"{small}\nwritten to {out}")


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CKPT", callback=there_or_random, help="A checkpoint, an exported .onnx, .c or .elf, or 'random'."
        ),
    ],
    task: Task = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N")] = 20,
    seed: Annotated[
        int,
        typer.Option(min=0, max=MOST_EPISODE_SEED, metavar="N", help="Environment seed of the first episode."),
    ] = 0,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, metavar="N", help="Break every episode off after so many steps.")
    ] = None,
    normalisation: Normalisation = None,
    time_feature: TimeFeature = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Measure a controller's return over seeded episodes with deterministic actions."""
    from prunectl.experiments.api.controllers import evaluate as run
    from prunectl.experiments.api.subject import Model, subject_of
    from prunectl.experiments.provenance import parts_of

    model: Model = checkpoint
    loader = None
    if checkpoint != RANDOM:
        model = subject_of(checkpoint, task, trust, normalisation, time_feature)
        loader = model.loaded.loader
    result = run(model, task, episodes, seed, max_steps)
    if as_json:
        emit(
            {
                "checkpoint": checkpoint,
                "task": result.task,
                "episodes": episodes,
                "seed": seed,
                "mean_return": result.mean_return,
                "std_return": result.std_return,
                "returns": result.returns.tolist(),
                "lengths": result.lengths.tolist(),
                **parts_of([] if loader is None else [loader]),
            }
        )
        return
    print(
        f"{result.task}: return {result.mean_return:.1f} ± {result.std_return:.1f} over {episodes} episodes "
        f"(seeds {result.seeds[0]} to {result.seeds[-1]}, {result.lengths.mean():.0f} steps an episode)"
    )


def train(
    algorithm: Annotated[
        str,
        typer.Argument(metavar="ALGO", callback=known("algorithm"), help=f"{listed('algorithm')}."),
    ],
    task: Annotated[str, typer.Option("--task", metavar="ID", callback=known_task)],
    steps: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Environment steps.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A new folder.")],
    seed: Seed = 0,
    encoder: Annotated[str, typer.Option(metavar="WIDTHS", help="A shared encoder of these widths, e.g. 64,64.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter in YAML; may be repeated."),
    ] = None,
    track_importance: Annotated[
        bool,
        typer.Option("--track-importance", help="Record each component's importance: importance.csv and a figure."),
    ] = False,
) -> None:
    """Train a controller, TD-MPC, TD-MPC2 or one of Stable-Baselines3's, and keep the best checkpoint."""
    from prunectl.experiments.provenance import command_line
    from prunectl.experiments.training import sb3 as training
    from prunectl.experiments.training import tdmpc as tdmpc_training

    asked = training.Training(algorithm, task, steps, seed, _overrides(set_ or []), _widths(encoder), track_importance)
    run = tdmpc_training.train if algorithm in tdmpc_training.COLLECTING else training.train
    print(run(asked, out, command_line()))


def _overrides(entries: list[str]) -> dict[str, object]:
    import yaml

    overrides = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {entry}: write it as KEY=VALUE")
        try:
            overrides[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"--set {entry}: the value is not YAML") from error
    return overrides


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")] if text else []
    except ValueError as error:
        raise typer.BadParameter(f"--encoder {text}: write widths as 64,64") from error
