"""Plug-ins in the processes of workers, those that start later too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import Client, WorkerPlugin

from prunectl.plugins import complaint
from prunectl.registry import Plugin


class Imports(WorkerPlugin):  # type: ignore[misc]
    """Imports the plug-ins of a sweep as a worker starts. Whether it could is asked by `check_workers`."""

    name = "prunectl-plugins"

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)

    def setup(self, worker: Any) -> None:
        complaint(self.plugins)


def import_on_workers(client: Client, plugins: Sequence[Plugin]) -> None:
    """Have all workers import these, now and whenever one starts."""
    client.register_plugin(Imports(plugins))
