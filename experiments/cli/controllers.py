"""``inspect``, ``prune``, ``evaluate`` and ``train``: one controller at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.experiments.cli.common import (
    Checkpoint,
    Json,
    Seed,
    Task,
    Trust,
    check_output,
    emit,
    load,
    load_for_task,
    progress,
    say,
)
from prunectl.experiments.episodes.seeds import MOST_EPISODE_SEED

if TYPE_CHECKING:
    from prunectl.agents import Loaded
    from prunectl.pruning.graph import ComponentGraph
    from prunectl.pruning.recovery import Budget

#: The word that stands for uniformly random actions where `evaluate` takes a checkpoint.
RANDOM = "random"


def inspect(
    checkpoint: Checkpoint,
    task: Task = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="OUT", help="Draw them too: OUT.pdf and OUT.png, dense beside pruned."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Show a controller's components, its flows, and the groups of units that must go together."""
    from prunectl.pruning import trace

    if figure is not None:
        figure = figure.with_suffix("") if figure.suffix in (".pdf", ".png") else figure
        for ending in (".pdf", ".png"):
            check_output(figure.with_name(figure.name + ending), force)
    loaded, today = load(checkpoint, task, trust)
    graph = trace(loaded.controller)
    if figure is not None:
        _draw(loaded, graph, figure)
    if not as_json:
        print(f"{loaded.name} ({today or 'task unknown'})\n{loaded.controller}\n\n{graph}")
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


def _draw(loaded: Loaded, graph: ComponentGraph, path: Path) -> None:
    from prunectl.experiments.drawing.canvas import save
    from prunectl.experiments.drawing.component_graph import controller_figure
    from prunectl.pruning import PruningPlan
    from prunectl.pruning.plan import uncut
    from prunectl.pruning.stock import stock_groups

    plan = PruningPlan.from_json(loaded.plan) if loaded.plan else uncut(graph)
    for written in save(controller_figure(loaded.name, graph, plan, stock_groups(loaded.controller, graph)), path):
        say(str(written))


def prune(
    checkpoint: Checkpoint,
    sparsity: Annotated[float, typer.Option("--sparsity", metavar="S", help="Share of all parameters to remove.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Where the smaller controller goes.")],
    task: Task = None,
    grouping: Annotated[
        str,
        typer.Option(
            help="global, layer, component; as the libraries come: stock-global, stock-local, stock-isomorphic, "
            "unstructured."
        ),
    ] = "component",
    importance: Annotated[
        str | None,
        typer.Option(
            help="magnitude, random, taylor, activation, surgeon, gradient, fisher, uncertainty, lamp, fpgm, hessian.  "
            "(default: surgeon; libraries': magnitude)"
        ),
    ] = None,
    allocation: Annotated[str, typer.Option(help="uniform, ranked, sensitivity, searched.")] = "uniform",
    recovery: Annotated[
        str | None,
        typer.Option(help="none, reconstruct, distill, scratch, finetune.  (default: distill; unstructured: none)"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N|Ts",
            help="How long the recovery may go on. distill, scratch: batches (24000) or seconds (60s); finetune: "
            "environment steps.",
        ),
    ] = None,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Make a controller smaller and write it as an ordinary checkpoint."""
    import time
    from dataclasses import asdict

    from prunectl.agents import ControllerError
    from prunectl.experiments.episodes.calibration import calibrate
    from prunectl.experiments.episodes.task_loop import TaskLoop
    from prunectl.experiments.provenance import command_line, versions
    from prunectl.pruning import Method, PruningError, check_budget, check_sparsity
    from prunectl.pruning import prune as prune_controller

    method = Method.of(grouping, importance, allocation, recovery)
    check_sparsity(sparsity)
    allowed = _budget(budget)
    try:
        check_budget(method, allowed)
    except PruningError as error:
        raise typer.BadParameter(f"--budget {budget}: {error}") from error
    check_output(out, force)
    loaded, today = load_for_task(checkpoint, task, trust)
    if out.suffix != loaded.controller.suffix:
        raise ControllerError(f"{out}: this controller is saved as a {loaded.controller.suffix} file: name it so")
    if sys.stderr.isatty():
        say(f"measuring {loaded.name} on {today} ...")
    started = time.perf_counter()
    calibration = calibrate(loaded.controller, today, seed)
    calibrated = time.perf_counter()
    loop = TaskLoop(today, seed)
    with progress(method.recovery) as told:
        pruned = prune_controller(
            loaded.controller, method, sparsity, calibration, seed=seed, loop=loop, budget=allowed, told=told
        )
    seconds = {"calibration": calibrated - started, **pruned.seconds}
    plan = pruned.plan
    validation = None if pruned.returns is None else dict(zip(("before", "after"), pruned.returns, strict=True))
    provenance = {
        "task": today,
        "training_seed": loaded.training_seed,
        "source": {"name": loaded.name, "digest": loaded.digest},
        "method": asdict(method),
        "seed": seed,
        "plan": plan.to_json(),
        "fidelity": dict(pruned.fidelity),
        "validation": validation,
        "command": command_line(),
        "versions": versions(),
    }
    for remark in pruned.controller.save(out, provenance):
        say(remark)
    if not as_json:
        print(f"{loaded.name} on {today}, {method.label}\n{plan}")
        if validation is not None:
            print("validation return {before:.1f} before, {after:.1f} after".format(**validation))
        print(f"integrity {pruned.integrity:.3f}, {sum(seconds.values()):.1f} s, written to {out}")
        return
    emit(
        {
            "checkpoint": str(out),
            "task": today,
            "method": asdict(method),
            "seed": seed,
            "sparsity_asked": plan.sparsity_asked,
            "sparsity_total": plan.sparsity_total,
            "sparsity_deployed": plan.sparsity_deployed,
            "params_dense": plan.params_dense,
            "params_pruned": plan.params_pruned,
            "params_deployed": plan.params_deployed,
            "components": plan.to_json()["components"],
            "fidelity": dict(pruned.fidelity),
            "integrity": pruned.integrity,
            "validation": validation,
            "seconds": sum(seconds.values()),
            "stages": seconds,
        }
    )


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="A checkpoint, an exported .onnx or .c, or 'random'.")
    ],
    task: Task = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N")] = 20,
    seed: Annotated[
        int,
        typer.Option(min=0, max=MOST_EPISODE_SEED, metavar="N", help="Environment seed of the first episode."),
    ] = 0,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Measure a controller's return over seeded episodes with deterministic actions."""
    from prunectl import envs
    from prunectl.agents import ControllerError
    from prunectl.experiments.episodes.evaluator import evaluate as run
    from prunectl.experiments.episodes.evaluator import evaluate_random
    from prunectl.experiments.episodes.seeds import reported_seeds

    seeds = reported_seeds(episodes, seed)
    if checkpoint == RANDOM:
        if task is None:
            raise ControllerError("random actions belong to no task: add --task ID (`prunectl tasks` lists them)")
        today, remark = envs.resolve(task)
        if remark:
            say(remark)
        result = evaluate_random(today, seeds)
    else:
        loaded, today = load_for_task(checkpoint, task, trust)
        result = run(loaded.controller, today, seeds)
    if as_json:
        emit(
            {
                "checkpoint": checkpoint,
                "task": today,
                "episodes": episodes,
                "seed": seed,
                "mean_return": result.mean_return,
                "std_return": result.std_return,
                "returns": result.returns.tolist(),
                "lengths": result.lengths.tolist(),
            }
        )
        return
    print(
        f"{today}: return {result.mean_return:.1f} ± {result.std_return:.1f} over {episodes} episodes "
        f"(seeds {seeds[0]} to {seeds[-1]}, {result.lengths.mean():.0f} steps an episode)"
    )


def train(
    algorithm: Annotated[
        str, typer.Argument(metavar="ALGO", help="tdmpc, sac, td3, ddpg, ppo, a2c, tqc, trpo, crossq.")
    ],
    task: Annotated[str, typer.Option("--task", metavar="ID")],
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
    """Train a controller, TD-MPC or one of Stable-Baselines3's, and keep the best checkpoint."""
    from prunectl.experiments.provenance import command_line
    from prunectl.experiments.training import sb3 as training
    from prunectl.experiments.training import tdmpc as tdmpc_training

    asked = training.Training(algorithm, task, steps, seed, _overrides(set_ or []), _widths(encoder), track_importance)
    run = tdmpc_training.train if algorithm == "tdmpc" else training.train
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


def _budget(text: str | None) -> Budget | None:
    from prunectl.pruning.recovery import Budget

    if text is None:
        return None
    number = text.removesuffix("s")
    try:
        return Budget(seconds=float(number)) if number != text else Budget(steps=int(number))
    except ValueError as error:
        wish = "write steps as 24000, or seconds as 60s; above 0"
        raise typer.BadParameter(f"--budget {text}: {wish}") from error


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")] if text else []
    except ValueError as error:
        raise typer.BadParameter(f"--encoder {text}: write widths as 64,64") from error
