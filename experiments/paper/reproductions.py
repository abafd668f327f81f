"""The reproductions by name: what each computes, what it should look like, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from prunectl.experiments.drawing.tables import write_file
from prunectl.experiments.paper.budget import write_budget
from prunectl.experiments.paper.components import write_components
from prunectl.experiments.paper.cuts import write_cuts
from prunectl.experiments.paper.groups import write_groups
from prunectl.experiments.paper.isolated import write_isolated
from prunectl.experiments.paper.reward_vs_sparsity import write_returns
from prunectl.experiments.paper.without_recovery import write_unrefitted
from prunectl.experiments.report.write import draw_report
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.config import SweepConfig, load_config
from prunectl.experiments.sweeping.store import Store
from prunectl.names import check_name

#: Makes a reproduction's outputs from its config, in a folder.
Make = Callable[[Path, Path, "Compute"], list[Path]]
#: Computes what of a sweep is missing, leaves its record and exports in a folder, and gives what it made.
Compute = Callable[[SweepConfig, Path], AbstractContextManager[tuple[Store, Work]]]


@dataclass(frozen=True)
class Reproduction:
    """``expected`` says what the outputs should look like; it is written beside what ``make`` gives."""

    name: str
    summary: str
    expected: str
    make: Make


def _alone(write: Callable[[Path, Path], list[Path]]) -> Make:
    """Made from the controllers alone: ``write`` takes the config and the folder."""
    return lambda config, folder, compute: write(config, folder)


def _swept(draw: Callable[[Store, Work, Path], list[Path]]) -> Make:
    """Made from a sweep, which is computed first as far as the store lacks it."""

    def make(config: Path, folder: Path, compute: Compute) -> list[Path]:
        with compute(load_config(config), folder) as (store, work):
            return draw(store, work, folder)

    return make


CATALOGUE = (
    Reproduction(
        "groups",
        "the whole-controller graph and the component graph, of TD-MPC and of SAC",
        "`overview` has a row a controller and graph, `groups` a row a group. In TD-MPC one unit of the latent "
        "touches 7 layers of all 6 components, and 1,666 parameters leave with it, five times as many as with any "
        "other; SAC without a shared encoder has no such group. Both graphs find the same groups of layers. They "
        "differ in what they know of them: Torch-Pruning ranks all units in one pool, the component graph has a pool"
        " for each component and one for the latent. `graph-*` shows both, `group-sizes` the bars.",
        _alone(write_groups),
    ),
    Reproduction(
        "reward-vs-sparsity",
        "TD-MPC's return and planning rate against sparsity: stock global, stock local, component-aware",
        "In `reward-vs-sparsity` the solid lines (refitted) stay at the dense controller's return (grey line) far "
        "longer than the dashed ones. On CartPoleSwingUp component + surgeon + reconstruct holds to 0.95 and the "
        "stock pruners, refitted too, to 0.8; on Pendulum all three hold to 0.95. Of the dashed lines component + "
        "activation + ranked holds longest; component + surgeon falls early, since its scores count on a refit. "
        "Below: decisions a second double by 0.9, whichever method. `summary` has s95 with the trainings pooled, "
        "`summary_by_training` each on its own, `normalised` the normalised return at every sparsity, `rates` what "
        "the lower panels show.",
        _swept(write_returns),
    ),
    Reproduction(
        "without-recovery",
        "component-aware pruning of TD-MPC with nothing refitted: what importance and allocation do",
        "What counts is how many units the latent keeps (`flow-widths`). Uniform allocation cuts it like everything "
        "else, to 26 of 50 at 0.7; `ranked` spares it, to between 33 and 38, and its lines fall later. Magnitude "
        "does not see that the latent matters, so ranking by it spares nothing. At equal widths (uniform) activation"
        " mostly beats surgeon, whose order takes for granted that what is left is refitted.",
        _swept(write_unrefitted),
    ),
    Reproduction(
        "components",
        "one component of TD-MPC, or its latent, pruned at a time: which of them the return depends on",
        "A panel a component and one for the latent's flow. Dashed lines (no recovery) fall at very different "
        "sparsities: the latent at once, then what writes it (encoder, dynamics), the critics late, reward and actor "
        "hardly at all. Solid lines (refitted) hold to 0.9 but for the latent. A ranking that trades units of one "
        "component for another's cannot know that; `components` has s95 of each.",
        _swept(write_components),
    ),
    Reproduction(
        "budget",
        "what a smaller TD-MPC saves: parameters, arithmetic, bytes, planning rate, return",
        "A row a task and sparsity. At 0.9 a tenth of the bytes and of a decision's multiply-accumulates is left, a "
        "decision takes less than half the time, and the return is the dense controller's.",
        _swept(write_budget),
    ),
    Reproduction(
        "isolated",
        "what it would buy if each reader of a latent dropped the units that it does not need, on its own",
        "A row a flow and damage. In TD-MPC the readers need nearly as many units each as all together, but not the "
        "same ones: the writers would have to make up to three times as many, and the layers around the latent come "
        "out no smaller (`ratio` about 1 and above). In an encoder shared by actor and critics it would save a few "
        "percent of them. That is why flows are coupled here.",
        _alone(write_isolated),
    ),
    Reproduction(
        "cuts",
        "where each allocation puts its cuts at sparsity 0.8, in SAC and in TD-MPC",
        "A group of bars a component (and one for the latent, in units), a bar an allocation: the share of its "
        "parameters that is left, with its widths above; the dotted line is the share of the whole that is left. "
        "`uniform` cuts all alike. `ranked` compares scores, and cuts SAC's actor below half of that, against what "
        "the return depends on. `sensitivity` and `searched` see what the outputs suffer: they spare SAC's actor at "
        "the critics' cost, and in TD-MPC the latent and the critics at the cost of reward and actor; the calibration "
        "error (`cuts`) is the lowest under `sensitivity`, which also sets the layers of a component apart.",
        _alone(write_cuts),
    ),
    Reproduction(
        "reference",
        "twenty bundled controllers, stock and component-aware, with every recovery: hours",
        "`report.html` has every curve, `aggregate` the means over all tasks with their intervals, `leaderboard` the "
        "methods by s95. What it says is in results/reference/README.md.",
        _swept(lambda store, work, folder: draw_report(store, folder)[0]),
    ),
)


def chosen(names: Sequence[str]) -> list[Reproduction]:
    """The reproductions of these names, in the catalogue's order; ``all`` means all of them.

    Raises:
        Error: there is no such reproduction.
    """
    for name in names:
        check_name("reproduction", name)
    return [entry for entry in CATALOGUE if entry.name in names or "all" in names]


def config_of(entry: Reproduction, quick: bool) -> Path:
    """The reproduction's config, or that of its quick form."""
    folder = resources.files("prunectl.experiments") / "configs" / "paper"
    return Path(str((folder / "quick" if quick else folder) / f"{entry.name}.yaml"))


def reproduce(entry: Reproduction, config: Path, folder: Path, compute: Compute) -> list[Path]:
    """Make one reproduction in a folder, and say beside it what it should look like.

    Returns:
        What was written, in the order of making.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# {entry.name}\n\n{entry.summary[0].upper()}{entry.summary[1:]}.\n\n{entry.expected}\n"
    about = write_file(folder / "about.md", lambda path: path.write_text(text, encoding="utf-8"))
    return [about, *entry.make(config, folder, compute)]
