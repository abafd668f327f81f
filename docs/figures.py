"""The figure that the page on the method has of its own: ``python docs/figures.py`` draws it anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import prunectl
from prunectl.experiments.drawing.canvas import PAGE
from prunectl.experiments.drawing.style import GREEN, LOOK, ORANGE, look
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.pruning import Method
from prunectl.pruning.importance import score
from prunectl.pruning.importance.evidence import Array, Evidence
from prunectl.pruning.recovery.reconstruct import ridge

#: What is looked at: a layer of 256 units, and in which order its units may go.
CONTROLLER, GROUP = "sac-double-pendulum", "actor/1"
ORDERS = ("random", "magnitude", "activation", "surgeon")
#: Two of them are as good as never in one figure, and have one colour.
OTHERWISE = {"activation": {"color": GREEN}, "magnitude": {"color": ORANGE}}
KEPT = (128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 2)
OUT = Path(__file__).parent / "_static" / "damage.png"


def error(values: Array, weights: Array, kept: Array, refitted: bool) -> float:
    """The consumers' error with these units alone, as a share of their variance."""
    wanted = values @ weights
    left = values[:, kept]
    if refitted:
        found, offset = ridge(left, wanted, np.ones((len(left), 1)))
        given = left @ found + offset
    else:
        given = left @ weights[kept]
    return float(((given - wanted) ** 2).mean() / wanted.var(axis=0).mean())


def main() -> None:
    """Draw it."""
    loaded = prunectl.load(CONTROLLER)
    assert loaded.task is not None
    controller, graph = loaded.controller, prunectl.trace(loaded)
    seen = calibrate(controller, loaded.task)
    inputs = controller.inputs(seen.observations, seen.actions)
    evidence = Evidence(graph, controller.dataflow(), inputs, np.random.default_rng(0))
    group = graph.groups[GROUP]
    values, weights = evidence.activations(group), evidence.outgoing(group)
    with rc_context(LOOK):
        figure = Figure(figsize=(PAGE, 0.42 * PAGE), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for panel, refitted in zip(axes, (False, True), strict=True):
            for name in ORDERS:
                best_first = np.argsort(-score(controller, graph, name, inputs)[GROUP], kind="stable")
                errors = [error(values, weights, best_first[:count], refitted) for count in KEPT]
                line = look(Method("component", name, "uniform", "reconstruct")).line | OTHERWISE.get(name, {})
                panel.plot(KEPT, errors, **line, label=name)
            panel.set(xscale="log", yscale="log", ylim=(1e-6, 20), xlabel=f"units kept of {group.units}")
            panel.set_xticks((2, 8, 32, 128), ("2", "8", "32", "128"), minor=False)
            panel.set_xticks((), minor=True)
            panel.set_title("and what is left is refitted" if refitted else "units removed")
        axes[0].invert_xaxis()
        axes[0].set_ylabel("error of what reads them, share of its variance")
        axes[0].legend()
        figure.savefig(OUT, dpi=160)


if __name__ == "__main__":
    main()
