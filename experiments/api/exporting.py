"""`export`: what acts, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from prunectl.agents import ControllerError
from prunectl.agents.deployment.load import require_onnx
from prunectl.agents.deployment.targets import target_of
from prunectl.experiments.api.calling import on_one_thread
from prunectl.experiments.api.files import check_new_folder, check_output
from prunectl.experiments.api.place import Env
from prunectl.experiments.api.subject import Model, Subject, subject_of
from prunectl.experiments.deploying import export as exporting
from prunectl.experiments.deploying.few_bits import Bits
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.rows import Rows


@dataclass(frozen=True)
class Exported:
    """Files that were written, and what is known of them: see `deploying.export.Export`."""

    paths: tuple[Path, ...]
    made: exporting.Export


@on_one_thread
def export(
    model: Model,
    path: str | Path,
    env: Env | None = None,
    bits: Bits | None = None,
    force: bool = False,
    trust: bool = False,
    inputs: ArrayLike | None = None,
    target: str | None = None,
) -> Exported:
    """Write what acts, from an observation in the task's units to the action, as ONNX, as C99 or for Arduino.

    Args:
        model: see `trace`.
        path: ``NAME.onnx``, or ``NAME.c``, beside which a header and a test are written; with a target ``NAME.elf``, an
            image that `evaluate` runs in an emulator, beside these three; ``NAME``, a new folder, for Arduino.
        env: see `evaluate`; actions are compared on what is visited there.
        bits: of a weight, where it is not to be a float: 8, in ONNX as pairs of QuantizeLinear and DequantizeLinear
            (QDQ, opset 17); or 4, in C alone, which is for what `prune` taught with ``recovery="distill-int4"``.
        force: replace files that are there.
        trust: see `load`.
        inputs: observations ``(n, ...)`` to compare actions on, in the place of a task.
        target: the machine that C is for, as ``cortex-m4``: what it takes there is measured (``made.taken``).

    Raises:
        Error: a layer that cannot be exported, actions that differ from the controller's own, or a tool is absent.
        OSError: a file is there already, or the folder is not.

    Example:
        >>> import prunectl
        >>> exported = prunectl.export("ppo-cartpole", "balance.c")  # doctest: +SKIP
        >>> [path.name for path in exported.paths]  # doctest: +SKIP
        ['balance.c', 'balance.h', 'balance_test.c']
    """
    return export_subject(subject_of(model, env, trust), Path(path), bits, force, inputs, target)


def export_subject(
    subject: Subject,
    path: Path,
    bits: Bits | None,
    force: bool,
    inputs: ArrayLike | None = None,
    target: str | None = None,
) -> Exported:
    """The same once it is known what is meant."""
    if bits not in (None, 8, 4):
        raise ControllerError(f"{path}: weights of {bits} bits are not written: bits is 8 or 4, or None for floats")
    forms: dict[str, exporting.Form] = {".onnx": "onnx", ".c": "c", exporting.IMAGE: "c", "": "arduino"}
    if path.suffix not in forms:
        raise ControllerError(f"{path}: name it so that it ends in .onnx, .c or .elf, or in none of them, as a library")
    form = forms[path.suffix]
    machine = None if target is None else target_of(target)
    if machine is not None and form == "onnx":
        raise ControllerError(f"{path}: a target is a machine that C is compiled for: name it .c or .elf")
    exporting.check_target(path, machine)
    if form == "onnx":
        require_onnx()
    if form == "arduino":
        check_new_folder(path, "a library")
    else:
        for name in exporting.names(path, form):
            check_output(path.with_name(name), force)
    task = subject.task if inputs is None else subject.stored_task()
    if inputs is None:
        calibration = calibrate(subject.controller, subject.task)
    else:
        calibration = Rows.of(subject.controller, inputs).calibration
    made = exporting.export(subject.loaded, task, calibration, path, form, bits, machine)
    exporting.write(made.files, path.parent)
    return Exported(tuple(path.parent / name for name in made.files), made)
