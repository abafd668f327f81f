"""The rules of the house: which package and which room may import which, no circles, and clean types and style."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "envs", "experiments", "pruning")
#: What each package may import of ours, by prefix.
ALLOWED = {
    "envs": ("prunectl.envs", "prunectl.errors", "prunectl.registry"),
    "agents": ("prunectl.agents", "prunectl.errors", "prunectl.references", "prunectl.registry"),
    "pruning": ("prunectl.pruning", "prunectl.agents.controller", "prunectl.errors", "prunectl.registry"),
    "experiments": ("prunectl.",),
}
#: The floors of experiments/, the ground first, and the rooms on each. A room imports from the floors below it alone:
#: not from those above, nor from its neighbours.
FLOORS = (
    ("jsontext", "provenance", "statistics"),
    ("episodes", "drawing"),
    ("stability",),
    ("training", "deploying"),
    ("sweeping",),
    ("analysis",),
    ("report",),
    ("bench", "paper", "suite"),
    ("api",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module of ours by the name that it is imported by."""
    found = {}
    top = (ROOT / "src" / "prunectl").glob("*.py")
    for path in (*top, *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("prunectl", *(parts[2:] if parts[0] == "src" else parts))
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """All that a file imports of ours, as dotted names down to the imported thing.

    Imports inside functions count, and those for the type checker alone: what is only put off is a circle still.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("prunectl", *PACKAGES)}


def room_of(name: str) -> str | None:
    """The room of experiments/ that a dotted name leads into."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["prunectl", "experiments"] and len(parts) > 2 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            assert name.startswith(ALLOWED[package]), f"{path.relative_to(ROOT)} may not import {name}"


def test_nothing_in_experiments_imports_up() -> None:
    known = modules()
    assert {room_of(name) for name in known} - {None} <= FLOOR_OF.keys(), "a new room needs a floor"
    for module, path in known.items():
        for name in imports(path):
            own, other = room_of(module), room_of(name)
            if own and other and own != other:
                where = f"{path.relative_to(ROOT)} may not import {name}"
                assert FLOOR_OF[other] < FLOOR_OF[own], f"{where}: {other} is not below {own}"


def test_the_picture_of_the_house_has_every_room_on_its_floor() -> None:
    picture = (ROOT / "CONTRIBUTING.md").read_text().partition("## Adding")[0]
    lines = [re.match(r" {4}(?:floor)? +(\d+)    (.*)", line) for line in picture.splitlines()]
    drawn = {int(found[1]): set(re.findall(r"\w+", found[2])) for found in lines if found}
    for number, rooms in enumerate(FLOORS, 1):
        assert set(rooms) <= drawn[number]
    assert len(drawn) == len(FLOORS)
    named = set(re.findall(r"\b(\w+\.py)\b", picture))
    assert named <= {path.name for path in (*modules().values(), *(ROOT / "tests").rglob("*.py"))}


def test_no_module_imports_itself_round_a_corner() -> None:
    known = modules()
    graph = {}
    for module, path in known.items():
        names = imports(path)
        graph[module] = {name if name in known else name.rpartition(".")[0] for name in names} & known.keys() - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


def test_torch_pruning_is_called_from_one_module() -> None:
    users = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py") if "import torch_pruning" in p.read_text()]
    assert [path.name for path in users] == ["stock.py"]


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)])
def test_style_and_types(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
