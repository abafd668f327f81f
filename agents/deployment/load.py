"""Exported files as controllers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.exported import Exported

#: What a planner's folder is known by.
_SETTINGS = "planning.json"


def is_exported(path: Path) -> bool:
    """Whether a file or a folder is what `prunectl export` writes, by name."""
    return path.suffix in (".onnx", ".c", ".elf") or (path / _SETTINGS).is_file()


def load_exported(path: Path, trust: bool) -> tuple[Exported, dict[str, Any]]:
    """The controller in a file or a planner's folder, and what it says of itself.

    Raises:
        ControllerError: it cannot be run; or it is C or an image, and that is not trusted.
        OSError: it cannot be read, or is too large.
    """
    if path.suffix == ".c":
        from prunectl.agents.deployment.c_run import load_c

        return load_c(path, trust)
    if path.suffix == ".elf":
        from prunectl.agents.deployment.emulated import load_elf

        return load_elf(path, trust)
    require_onnx()
    if path.is_dir():
        from prunectl.agents.deployment.planner_folder import load_planner

        return load_planner(path)
    from prunectl.agents.deployment.onnx_run import load_onnx

    return load_onnx(path)


def require_onnx() -> None:
    """Raise ControllerError where a package for ONNX is not installed."""
    try:
        for name in ("onnx", "onnxruntime"):
            importlib.import_module(name)
    except ImportError as error:
        raise ControllerError(f"ONNX needs the package '{error.name}': pip install onnx onnxruntime") from error
