"""Taking a controller out: its deployed path as ONNX or C, checked on visited observations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from prunectl.agents import Controller, ControllerError, Loaded
from prunectl.agents.choices import Actions
from prunectl.agents.controller import Batch
from prunectl.agents.deployment.arduino import library
from prunectl.agents.deployment.c_form import c_source, identifier
from prunectl.agents.deployment.c_texts import Costs
from prunectl.agents.deployment.image import require
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.program import Program, program
from prunectl.agents.deployment.steps import QuantisedAffine
from prunectl.agents.deployment.targets import TARGETS, Target
from prunectl.agents.files import replacing
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.experiments.deploying.few_bits import Bits, in_few_bits
from prunectl.experiments.deploying.on_target import OnTarget, measured
from prunectl.experiments.provenance import command_line, parts_of, plan_of, versions
from prunectl.pruning import Calibration
from prunectl.registry import one_line

Form = Literal["onnx", "c", "arduino"]
#: How the name of an image for an emulated board ends.
IMAGE = ".elf"
#: Decisions that a planner is checked on, those of them that its folder carries, and how many may differ by more than
#: `MOST_FLOAT`: where rounding decides which of two elites is drawn, the other one is as good.
DECISIONS, DECISION_EXAMPLES, MOST_OTHER = 100, 8, 0.05
#: Observations that an export is checked on, and those of them that a C test carries.
ROWS, EXAMPLES = 1_000, 16
#: How far actions may lie from the controller's own, in half action ranges; of indices, what share may differ, since
#: rounding decides near a tie. In float the largest difference counts: it is rounding. In few bits the mean does: how
#: much of it the loop bears is for `evaluate` to say.
MOST_FLOAT, MOST_TIES, MOST_WHOLE = 1e-4, 2e-3, 0.1


@dataclass(frozen=True)
class Difference:
    """How far exported actions lie from the controller's own over ``rows`` observations: see `MOST_FLOAT`."""

    largest: float
    mean: float
    rows: int


@dataclass(frozen=True)
class Export:
    """Files by name and what is known of them. ``compiled`` says whether it was compiled C that was compared; ``still``
    has the observations that never moved while whole numbers were calibrated, which the export takes for constants;
    ``taken`` what it takes on a target, on which it was compared then, if that can be emulated."""

    files: Mapping[str, bytes]
    difference: Difference
    costs: Costs | None
    compiled: bool
    still: tuple[int, ...] = ()
    taken: OnTarget | None = None


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Put files into a folder, each under a temporary name first."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def names(out: Path, form: Form) -> tuple[str, ...]:
    """The files that an export to ``out`` writes, beside each other."""
    name = identifier(out.stem)
    if form == "onnx":
        return (out.name,)
    image = (out.name,) if out.suffix == IMAGE else ()
    return out.with_suffix(".c").name, f"{name}.h", f"{name}_test.c", *image


def check_target(out: Path, target: Target | None) -> None:
    """Raise ControllerError where no image can be made for the target, or a tool for it is absent."""
    if out.suffix == IMAGE and (target is None or target.emulator is None):
        emulated = ", ".join(name for name, one in TARGETS.items() if one.emulator is not None)
        raise ControllerError(f"{out}: an image is for a target that is emulated, as {emulated}: name it .c for others")
    if target is not None:
        require(target)


def deployed(controller: Controller) -> nn.Module:
    """What acts: from an observation, and from a memory or a mask beside it where there is one."""
    more = controller.memory > 0 or controller.masked
    return controller.deployed_step() if more else controller.deployed_path()


def export(
    loaded: Loaded,
    task: str | None,
    calibration: Calibration,
    out: Path,
    form: Form,
    bits: Bits | None = None,
    target: Target | None = None,
) -> Export:
    """The deployed path of a controller in a form that needs no PyTorch.

    Args:
        loaded: the controller and where it is from.
        task: a task id that fits it, if there is one.
        calibration: what it visits there: what it is checked on, and whole numbers are calibrated on.
        out: the file that it is for; nothing is written here. C is named after its stem; where it ends in .elf, an
            image for the target's emulated board comes with it.
        form: ``onnx``, ``c``, or ``arduino``: the same C as a library, a folder.
        bits: of a weight, 4 in C alone; None for floats.
        target: what C is for, to be compiled and measured.

    Raises:
        ControllerError: a layer that cannot be exported, actions that differ, or a tool of the target's is absent.
    """
    controller = loaded.controller
    interface = Interface.of(controller)
    layers = deployed(controller)
    path = _program(layers, interface.observations, form)
    if bits is not None:
        if path is None:
            raise ControllerError(f"{out}: of this network only floats can be written: leave int{bits} out")
        if bits == 4 and form == "onnx":
            raise ControllerError(f"{out}: weights of four bits are written as C: take int8, or name it .c")
        path = in_few_bits(path, calibration.observations, bits)
    said = interface.as_json(provenance(loaded, task, "float32" if bits is None else f"int{bits}"))
    rows = checked_rows(calibration)
    costs, compiled, taken = None, False, None
    if form == "onnx":
        content, actions = _onnx(path or layers, said, rows, interface.observations)
        files = {out.name: content}
    else:
        assert path is not None
        examples = _spread(rows, EXAMPLES)
        named = names(out, "c")
        source = c_source(path, named[0], said, examples, _tolerance(interface.action_space, bits))
        texts = (source.code, source.header, source.test)
        files = {name: text.encode() for name, text in zip(named, texts, strict=False)}
        costs, compiled, ran = source.costs, shutil.which("gcc") is not None, None
        if target is not None:
            taken, ran = measured(files, identifier(out.stem), path, said, rows, target)
        if ran is None:
            actions = _run_c(files, rows) if compiled else path(rows)
        else:
            actions, compiled = ran.actions, True
            files |= {out.name: ran.image} if out.suffix == IMAGE else {}
        if form == "arduino":
            files = library(out.name, identifier(out.stem), path, source)
    found = difference(actions, own_actions(controller, rows), interface.action_space)
    rounding = MOST_FLOAT if isinstance(interface.action_space, spaces.Box) else MOST_TIES
    apart, bound = (found.largest, rounding) if bits is None else (found.mean, MOST_WHOLE)
    if not apart <= bound:
        raise ControllerError(
            f"{out}: not written: its actions differ from the controller's own by {apart:.2g}, {bound:g} is allowed"
            + (": weights of four bits are for a controller that recovery distill-int4 taught" if bits == 4 else "")
        )
    return Export(files, found, costs, compiled, () if path is None else _still(path), taken)


def _program(layers: nn.Module, observations: int, form: Form) -> Program | None:
    """The steps of a deployed path; None where it is none of steps, which ONNX can hold nevertheless.

    Raises:
        ControllerError: C cannot hold it.
    """
    try:
        return program(layers, observations)
    except ControllerError as error:
        if form == "onnx":
            return None
        raise ControllerError(f"{error}; as ONNX it can be") from error


def _still(path: Program) -> tuple[int, ...]:
    first = next((step for step in path.steps if isinstance(step, QuantisedAffine)), None)
    return () if first is None else tuple(np.flatnonzero(first.inverse_step == 0).tolist())


def _tolerance(space: Actions, bits: Bits | None) -> float:
    """What a C test allows, in the action's own units: of whole numbers a rounding may fall to the other side."""
    half = float(np.max(0.5 * (space.high - space.low))) if isinstance(space, spaces.Box) else 1.0
    return (1 if bits is None else 100) * MOST_FLOAT * (half if np.isfinite(half) else 1.0)


def export_planner(loaded: Loaded, task: str, calibration: Calibration, out: Path) -> Export:
    """The world model of a controller that plans, its planner as a script, and an example: a folder's files.

    Raises:
        ControllerError: it does not plan, or its decisions differ.
    """
    from prunectl.agents.deployment.planner_folder import decisions, planner_files
    from prunectl.agents.deployment.planner_script import Planner, differences

    controller = loaded.controller
    if not isinstance(controller, TDMPCController):
        raise ControllerError(f"{loaded.name}: a {controller.algorithm} controller does not plan: leave --planner out")
    said = Interface.of(controller).as_json(provenance(loaded, task, "float32"))
    expected = decisions(controller, _spread(checked_rows(calibration), DECISIONS))
    example = {name: values[:DECISION_EXAMPLES] for name, values in expected.items()}
    files = planner_files(controller, said, example)
    with tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        apart = differences(Planner(folder), expected)
    other = float((apart > MOST_FLOAT).mean())
    if not other <= MOST_OTHER:
        raise ControllerError(
            f"{out}: not written: {other:.0%} of the decisions differ from the controller's own, {MOST_OTHER:.0%} may"
        )
    return Export(files, Difference(float(apart.max()), float(apart.mean()), len(apart)), None, False)


def provenance(loaded: Loaded, task: str | None, weights: str) -> dict[str, Any]:
    """Where an export comes from."""
    plan = plan_of(loaded)
    return {
        "task": task,
        "training_seed": loaded.training_seed,
        "source": {"name": loaded.name, "digest": loaded.digest},
        "weights": weights,
        "sparsity_total": 0.0 if plan is None else plan.sparsity_total,
        "sparsity_deployed": 0.0 if plan is None else plan.sparsity_deployed,
        "plan": loaded.plan,
        "command": command_line(),
        "versions": versions(),
        **parts_of([] if loaded.loader is None else [loaded.loader]),
    }


def checked_rows(calibration: Calibration) -> Batch:
    """`ROWS` visited observations, held-out ones where there are enough, evenly over the episodes."""
    rows = calibration.held_out_observations
    if len(rows) < ROWS:
        rows = np.concatenate([rows, calibration.observations])
    return _spread(rows, ROWS)


def _spread(rows: Batch, count: int) -> Batch:
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return np.asarray(rows[chosen])


def own_actions(controller: Controller, observations: Batch) -> NDArray[Any]:
    """What the exported path should answer: `act`, or the policy's action where `act` plans."""
    if not controller.plans:
        return controller.act(observations)
    with torch.inference_mode():
        return np.asarray(controller.deployed_path()(torch.as_tensor(observations, dtype=torch.float32)))


def difference(actions: NDArray[Any], expected: NDArray[Any], space: Actions) -> Difference:
    """Between actions ``(n, ...)``, in the units of `MOST_FLOAT`."""
    if not isinstance(space, spaces.Box):
        differs = (actions != expected).astype(np.float64)
        return Difference(float(differs.mean()), float(differs.mean()), len(expected))
    half = 0.5 * (space.high.astype(np.float64) - space.low)
    apart = np.abs(actions.astype(np.float64) - expected) / np.where(np.isfinite(half) & (half > 0), half, 1.0)
    return Difference(float(apart.max()), float(apart.mean()), len(expected))


def _onnx(
    path: Program | nn.Module, said: Mapping[str, Any], rows: Batch, observations: int
) -> tuple[bytes, NDArray[Any]]:
    """The model, and its actions for the rows, which end with what else it is given."""
    from prunectl.agents.deployment.onnx_form import onnx_bytes
    from prunectl.agents.deployment.onnx_run import session

    given = rows.reshape(len(rows), -1).astype(np.float32)
    if isinstance(path, Program):
        content = onnx_bytes(path, said)
    else:
        from prunectl.agents.deployment.onnx_whole import whole_onnx_bytes

        content = whole_onnx_bytes(path, said, observations, getattr(path, "beside", None))
    try:
        running = session(content)
        widths = [(entry.name, int(entry.shape[1])) for entry in running.get_inputs()]
        begins = [sum(width for _, width in widths[:number]) for number in range(len(widths))]
        sides = {name: given[:, begin : begin + width] for (name, width), begin in zip(widths, begins, strict=True)}
        return content, running.run(None, sides)[0]
    except Exception as error:  # the runtime has errors of its own for each thing that may be wrong
        raise ControllerError(f"ONNX Runtime cannot run the export ({one_line(error)})") from error


def _run_c(files: Mapping[str, bytes], rows: Batch) -> NDArray[Any]:
    """Actions of the compiled files for the rows; the first file is the code."""
    from prunectl.agents.deployment.c_run import load_c

    with tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        running, _ = load_c(Path(folder, next(iter(files))), trust=True)
        return running.act(rows)
