"""What a wheel holds, and that it works where other packages and the user's own folders are called as ours were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDERS = ("agents", "envs", "experiments", "pruning")
#: A package of PyPI whose only import name is ``agents``.
NAMESAKE = "openai-agents==0.24.0"
#: For processes that may see no prunectl but the installed one.
WITHOUT_OURS = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
#: What a user's own module of that name says if it is imported by mistake.
THEIRS = "raise ImportError('this is not prunectl')\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree to build in, without anything that earlier builds left."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", *FOLDERS):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``pip install .`` makes it."""
    return build(source, tmp_path_factory.mktemp("wheel"), "--wheel")


def build(source: Path, target: Path, *what: str) -> Path:
    """Build without the network and give the wheel."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(target), str(source)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = target.glob("*.whl")
    return wheel


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_one_package_and_all_of_its_data(wheel: Path) -> None:
    found = names(wheel)
    tops = {name.split("/")[0] for name in found}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"prunectl"}
    assert len(tops) == 2
    wanted = {
        f"prunectl/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= {f"prunectl/{path.name}" for path in (ROOT / "src" / "prunectl").glob("*.*") if path.is_file()}
    # Nothing is forgotten and nothing is there that the tree does not have.
    assert {name for name in found if name.startswith("prunectl/")} == wanted
    assert {"prunectl/py.typed", "prunectl/agents/zoo/index.json", "prunectl/experiments/configs/demo.yaml"} <= found


@pytest.mark.slow
def test_a_source_distribution_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(source, tmp_path)
    assert names(again) == names(wheel)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        # Links would point out of what was unpacked.
        assert not [member.name for member in tar if member.issym()]


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and its namesake, and what both need from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    pip(folder, "install", "--no-deps", "--no-index", str(wheel))
    try:
        pip(folder, "install", "--no-deps", "--retries", "0", NAMESAKE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the package registry has no {NAMESAKE} for us: {error.stderr.strip().splitlines()[-1]}")
    assert (site / "agents" / "__init__.py").is_file()
    # A line of a .pth file adds a folder, not the .pth files in it: an editable prunectl there is not seen through it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def pip(environment: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(environment), "--disable-pip-version-check", *arguments]
    subprocess.run(command, env=WITHOUT_OURS, check=True, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_it_works_beside_packages_and_folders_of_the_names_that_ours_had(environment: Path, tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(THEIRS)
    settings = {
        "controllers": ["ppo-cartpole-1"],
        "methods": {"recovery": "reconstruct"},
        "sparsities": [0.5],
        "episodes": 2,
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))

    def python(*arguments: str) -> str:
        command = [str(environment / "bin" / "python"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=WITHOUT_OURS, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    where = python("-c", "import prunectl; print(prunectl.__file__)").strip()
    assert Path(where).is_relative_to(environment)
    python(
        *("-m", "prunectl", "prune", "ppo-cartpole-1", "--sparsity", "0.5"),
        *("--recovery", "reconstruct", "-o", "small.zip"),
    )
    assert "CartPole-v1" in python("-m", "prunectl", "evaluate", "small.zip", "--episodes", "2")
    python("-m", "prunectl", "sweep", "tiny.yaml", "--out", "out", "--workers", "1")
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(table["status"]) == ["done", "done"]

    # It overwrote nothing of ours, so taking it away takes nothing of ours with it.
    pip(environment, "uninstall", "--yes", "openai-agents")
    assert "ppo-cartpole-1" in python("-m", "prunectl", "agents")
