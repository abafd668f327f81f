"""``tasks`` and ``agents``: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunectl.experiments.cli.common import Json, columns, emit

#: How deep under the current folder checkpoints are looked for.
DEPTH = 4


def list_tasks(as_json: Json = False) -> None:
    """List the control tasks, with horizon and reference returns."""
    from dataclasses import asdict

    from prunectl.envs import TASKS

    if as_json:
        emit({"tasks": [asdict(task) for task in TASKS.values()]})
        return
    rows = [["task", "horizon", "random", "success", "what success means"]]
    for task in TASKS.values():
        random = "-" if task.random_return is None else f"{task.random_return:.1f} ± {task.random_std:.1f}"
        success = "-" if task.success_return is None else f"{task.success_return:g}"
        rows.append([task.id, str(task.horizon), random, success, task.success])
    print(columns(rows))
    print("Any other Gymnasium id works too, module:Id included.")


def list_agents(as_json: Json = False) -> None:
    """List the bundled checkpoints, and those found under the current folder."""
    from prunectl import agents

    bundled = [dict(entry) for entry in agents.bundled()]
    found = find_checkpoints(Path())
    if as_json:
        emit({"bundled": bundled, "found": [str(path) for path in found]})
        return
    rows = [["bundled", "algorithm", "task", "return", "steps"]]
    rows += [[e["name"], e["algorithm"], e["task"], _return(e), f"{e['steps']:,}"] for e in bundled]
    print(columns(rows))
    if found:
        print("\nfound here")
        print("\n".join(str(path) for path in found))


def find_checkpoints(folder: Path) -> list[Path]:
    """Stable-Baselines3 zips and tensors at most `DEPTH` folders down, without hidden folders and the bundled ones."""
    import os
    import zipfile

    found = []
    for root, folders, files in os.walk(folder):
        here = Path(root)
        if _is_bundle(here) or len(here.relative_to(folder).parts) >= DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (here / name for name in sorted(files) if name.endswith((".zip", ".pt"))):
            try:
                with zipfile.ZipFile(path) as archive:  # which a .pt is as well
                    if path.suffix == ".pt" or {"data", "policy.pth"} <= set(archive.namelist()):
                        found.append(path)
            except (zipfile.BadZipFile, OSError):
                continue  # some other file: only checkpoints are listed
    return found


def _is_bundle(folder: Path) -> bool:
    """Whether these are the bundled controllers, in this installation or in a clone of the repository."""
    from prunectl.references import ZOO

    theirs, ours = folder / "index.json", ZOO / "index.json"
    return theirs.is_file() and theirs.read_bytes() == ours.read_bytes()


def _return(entry: dict[str, Any]) -> str:
    return f"{entry['mean_return']:.1f} ± {entry['std_return']:.1f}"
