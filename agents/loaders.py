"""Loaders of plug-ins: what reads checkpoints of a make that prunectl does not know."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.files import digest_of
from prunectl.registry import Plugin, Registry, one_line

#: The controller at a path, or None where it is not of the loader's make.
Loader = Callable[[Path], Controller | None]

#: None comes with prunectl: what it reads itself, `load` tells apart.
LOADERS: Registry[Loader] = Registry("loader", {}, ControllerError)


def plugged(path: Path) -> tuple[Controller, str, Plugin] | None:
    """The controller that the first loader to know its make gives, a digest of the files and the loader, and whose it
    is.

    Raises:
        ControllerError: a loader fails, or gives something else than a controller.
    """
    for name, loader in LOADERS.items():
        plugin = LOADERS.plugin(name)
        assert plugin is not None
        try:
            controller = loader(path)
        except Exception as error:  # whatever the plug-in raises
            raise ControllerError(f"{path}: {plugin} raised {one_line(error)}") from error
        if controller is None:
            continue
        if not isinstance(controller, Controller):
            raise ControllerError(f"{path}: {plugin} gave {type(controller).__name__}, a Controller or None is needed")
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        read = f"{digest_of(*files)} {plugin.name} {plugin.version} {plugin.digest}"
        return controller, hashlib.sha256(read.encode()).hexdigest(), plugin
    return None


def further() -> bool:
    """Whether installed packages have brought loaders that have not been asked yet."""
    asked = len(LOADERS)
    return len(LOADERS.names()) > asked
