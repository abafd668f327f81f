"""How soon the command line answers: a mistake in a name, and the report of the reference study."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from prunectl.experiments.bench.timing import Section, judged
from prunectl.experiments.report.write import write_report
from prunectl.experiments.sweeping.recheck import RESULTS
from prunectl.experiments.sweeping.store import FILE

#: The reference study, where this is a clone of the repository.
REFERENCE = RESULTS / "reference"
_PRUNE = ("prune", "ppo-cartpole", "-o", "never.zip")
#: Commands that name what is not there.
REFUSED = (
    ("evaluate", "nowhere.zip"),
    ("report", "nowhere"),
    (*_PRUNE, "--sparsity", "1.5"),
    (*_PRUNE, "--sparsity", "0.5", "--grouping", "nothing"),
    (*_PRUNE, "--sparsity", "0.5", "--importance", "nothing:mine"),
    (*_PRUNE, "--sparsity", "0.5", "--task", "Nothing-v1"),
)


def measure(quick: bool) -> list[Section]:
    """A row an answer, in seconds of processor time: what else the machine is doing matters little then."""
    rounds = 2 if quick else 5
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder, "wrong.yaml")
        wrong.write_text("controllers: ppo-cartpole\nmethods: {grouping: nothing}\nsparsities: 0.5\n")
        for command in (*REFUSED, ("sweep", str(wrong))):
            taken = float(np.median([_refusal(command) for _ in range(rounds)]))
            case = f"prunectl {' '.join(command).replace(str(wrong), wrong.name)}"
            rows.append({"case": case, "seconds": taken, **judged(taken, at_most=1.0)})
    if (REFERENCE / FILE).is_file() and not quick:
        taken = float(np.median([_report() for _ in range(3)]))
        rows.append({"case": "prunectl report results/reference", "seconds": taken, **judged(taken, at_most=10.0)})
    remark = (
        "Seconds of processor time. Refusals: a process that starts, says in one line what is not there, and ends. The "
        "report: figures, tables and page of the reference study, without what is imported first."
    )
    return [Section("answers", pd.DataFrame(rows), {"seconds": ",.2f"}, remark)]


def _refusal(command: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "prunectl", *command], capture_output=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 2:
        raise RuntimeError(f"prunectl {' '.join(command)} ended with {done.returncode}")
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def _report() -> float:
    with tempfile.TemporaryDirectory() as folder:
        for name in (FILE, "config.yaml", "provenance.json"):
            shutil.copy(REFERENCE / name, folder)
        before = resource.getrusage(resource.RUSAGE_SELF)
        write_report(Path(folder))
        after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
