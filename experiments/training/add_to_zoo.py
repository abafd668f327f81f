"""Adding what `prunectl train` made to the bundle: ``python -m prunectl.experiments.training.add_to_zoo FOLDER...``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from prunectl import agents
from prunectl.agents.files import replacing
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.references import ZOO

EPISODES = 20


def bundle(folder: Path) -> dict[str, Any]:
    """Copy a training's folder to the bundle and give its entry for the index: what it is and what it returns."""
    name = folder.name
    target = ZOO / name
    if folder.resolve() != target.resolve():
        shutil.copytree(folder, target, dirs_exist_ok=True)
    record = json.loads((target / "training.json").read_text())
    # Where it was trained is nobody's business; anyone who runs the command again gets the same folder.
    record["command"] = re.sub(r"(-o|--out) \S+", f"-o agents/zoo/{name}", record["command"])
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    loaded = agents.load(target)
    episodes = evaluate(loaded.controller, record["task"], reported_seeds(EPISODES))
    return {
        "name": name,
        "algorithm": record["algorithm"],
        "task": record["task"],
        "training_seed": record["seed"],
        "steps": record["steps"],
        "episodes": EPISODES,
        "mean_return": round(episodes.mean_return, 2),
        "std_return": round(episodes.std_return, 2),
        "parameters": loaded.controller.parameters(),
        "command": record["command"],
    }


def main() -> None:
    """Bundle the folders named on the command line, beside what is there."""
    torch.set_num_threads(1)
    index = ZOO / "index.json"
    entries = {entry["name"]: entry for entry in (json.loads(index.read_text()) if index.is_file() else [])}
    for argument in sys.argv[1:]:
        entry = bundle(Path(argument))
        entries[entry["name"]] = entry
        print(f"{entry['name']}: {entry['mean_return']} +- {entry['std_return']}")
    with replacing(index) as temporary:
        temporary.write_text(json.dumps([entries[name] for name in sorted(entries)], indent=1) + "\n")


if __name__ == "__main__":
    main()
