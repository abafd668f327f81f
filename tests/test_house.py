"""The rules of the house: which package may import which, and clean types and style."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "envs", "experiments", "pruning")
#: What each package may import of ours, by prefix.
ALLOWED = {
    "envs": ("prunectl.envs", "prunectl.errors", "prunectl.registry"),
    "agents": ("prunectl.agents", "prunectl.errors", "prunectl.registry"),
    "pruning": ("prunectl.pruning", "prunectl.agents.controller", "prunectl.errors", "prunectl.registry"),
    "experiments": ("prunectl.",),
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "prunectl":
            found |= {f"prunectl.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("prunectl", *PACKAGES)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            assert name.startswith(ALLOWED[package]), f"{path.relative_to(ROOT)} may not import {name}"


def test_torch_pruning_is_called_from_one_module() -> None:
    users = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py") if "import torch_pruning" in p.read_text()]
    assert [path.name for path in users] == ["stock.py"]


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)])
def test_style_and_types(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
