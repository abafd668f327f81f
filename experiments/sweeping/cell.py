"""A sweep as data: its cells, what decides their outcome, the work that they share, and how they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property

from prunectl.agents.controller import Controller
from prunectl.envs.plants import PLANTS
from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.experiments.stability import measure as stability
from prunectl.experiments.stability.bounds import Checks
from prunectl.pruning import ONCE, Ask, Method, PruningPlan, Schedule, Variant
from prunectl.registry import Plugin

#: Part of every cell's key. Raise it when calibration or evaluation change, so that old cells are computed anew
#: (`stability.VERSION` is that of stability).
VERSION = 1


@dataclass(frozen=True)
class Subject:
    """A controller on a task. ``digest`` stands for everything that decides what the controller does, and what the task
    is where that is a user's own file. ``surrounded``: random actions may return something else in what the controller
    needs around it than on the plain task."""

    controller: str
    digest: str
    algorithm: str
    task: str
    training_seed: int | None
    surrounded: bool = False


@dataclass(frozen=True)
class Reference:
    """Random actions on the reported episodes of a task; with a ``digest``, in what that controller has around it."""

    task: str
    episodes: int
    episode_seed: int
    digest: str | None = None


@dataclass(frozen=True)
class Cell:
    """A controller, a method, a sparsity and a seed. The dense controller is the cell without a method.

    ``seed`` drives the pruning, ``episode_seed`` is the first of ``episodes`` environment seeds. With ``only``, one
    component or flow is pruned, or what acts, and ``sparsity`` is its own; with ``budgets``, some have shares of their
    own besides (`Ask`). ``schedule`` says in how many steps, ``recovery_budget`` how many a recovery may take.
    ``stability`` are the independent starts of each check of the loop's stability, None where that is not recorded;
    ``seed`` then decides the function that must fall as well.
    """

    subject: Subject
    method: Method | None
    sparsity: float
    seed: int
    episodes: int
    episode_seed: int
    min_width: int
    only: str | None = None
    stability: int | None = None
    budgets: tuple[tuple[str, float], ...] = ()
    schedule: Schedule = ONCE
    recovery_budget: int | None = None

    @property
    def ask(self) -> Ask:
        """What is asked for."""
        return Ask(self.sparsity, self.budgets) if self.only is None else Ask(None, ((self.only, self.sparsity),))

    @property
    def reference(self) -> Reference:
        """The random reference that it is held against."""
        of = self.subject
        return Reference(of.task, self.episodes, self.episode_seed, of.digest if of.surrounded else None)

    @property
    def variant(self) -> Variant | None:
        """The method as it is asked for, after which results are named; None for the dense controller."""
        if self.method is None:
            return None
        return Variant(self.method, self.budgets, self.schedule, self.recovery_budget)

    @property
    def measures(self) -> bool:
        """Whether its allocation looks at damage."""
        return self.method is not None and self.method.measures and self.ask.divides

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plug-ins that it is computed with, but for the one that read the controller, which its digest names."""
        method = () if self.method is None else self.method.plugins
        task = None if self.stability is None else PLANTS.plugin(self.subject.task)
        return method if task is None else (*method, task)

    @cached_property
    def key(self) -> str:
        """A hash of everything that decides the outcome, 32 hexadecimal digits."""
        method = self.method
        decisive = {
            "version": VERSION,
            "controller": self.subject.digest,
            "task": self.subject.task,
            "method": None if method is None else [*astuple(method), method.version],
            "sparsity": self.sparsity,
            "seed": self.seed,
            "episodes": self.episodes,
            "episode_seed": self.episode_seed,
            "min_width": self.min_width,
        }
        if self.only is not None:  # left out otherwise: cells of whole controllers keep the keys they always had
            decisive["only"] = self.only
        if self.budgets:  # likewise
            decisive["budgets"] = self.budgets
        if self.schedule.steps > 1:  # likewise
            decisive["schedule"] = astuple(self.schedule)
        if self.recovery_budget is not None:  # likewise
            decisive["recovery_budget"] = self.recovery_budget
        if self.stability is not None:  # likewise
            decisive["stability"] = [self.stability, stability.VERSION]
        if self.plugins:  # likewise
            decisive["plugins"] = [[p.kind, p.name, p.version, p.digest] for p in self.plugins]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]

    def __str__(self) -> str:
        where = f"{self.subject.controller} on {self.subject.task}"
        if self.variant is None:
            return f"{where}, dense"
        alone = "" if self.only is None else f" of {self.only} alone"
        return f"{where}, {self.variant.label} at sparsity {self.sparsity:g}{alone}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a cell gives. ``seconds`` has the time of each stage, ``checks`` the stability where it is recorded,
    ``rounded`` the bytes of each component that acts where its weights are not floats."""

    plan: PruningPlan
    integrity: float
    episodes: Episodes
    seconds: Mapping[str, float]
    checks: Checks | None = None
    rounded: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Network:
    """Shared work of all cells of a controller: it travels to the workers once."""

    digest: str


@dataclass(frozen=True)
class Calibrated:
    """Shared work: the calibration of a controller on a task, with a seed."""

    digest: str
    task: str
    seed: int


@dataclass(frozen=True)
class Fitted:
    """Shared work: the function that must fall along the loops of a controller's cells on a task, with a seed."""

    digest: str
    task: str
    seed: int


@dataclass(frozen=True)
class Scored:
    """Shared work: the scores of a controller's units by one importance, on a calibration."""

    data: Calibrated
    importance: str


@dataclass(frozen=True)
class Damaged:
    """Shared work: the damage that allocations look at, of units that are scored."""

    scores: Scored


#: Work that cells share.
Piece = Network | Calibrated | Fitted | Scored | Damaged


@dataclass(frozen=True)
class Needs:
    """The shared work that a cell needs; None for what it does without."""

    network: Network
    calibration: Calibrated | None = None
    scores: Scored | None = None
    damage: Damaged | None = None
    lyapunov: Fitted | None = None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of it, each piece after those that it needs itself."""
        every = (self.network, self.calibration, self.scores, self.damage, self.lyapunov)
        return tuple(piece for piece in every if piece is not None)


def needs(cell: Cell) -> Needs:
    """The shared work that a cell needs."""
    subject, method = cell.subject, cell.method
    where = (subject.digest, subject.task, cell.seed)
    network, lyapunov = Network(subject.digest), None if cell.stability is None else Fitted(*where)
    if method is None:
        return Needs(network, lyapunov=lyapunov)
    calibration = Calibrated(*where)
    scores = None if method.stock else Scored(calibration, method.importance)
    damage = Damaged(scores) if scores is not None and cell.measures else None
    return Needs(network, calibration, scores, damage, lyapunov)


@dataclass(frozen=True)
class Work:
    """A sweep with its controllers loaded.

    ``controllers`` by digest, ``cells`` in the order of the config; ``resources`` by digest where only workers that
    offer them may take a controller's cells (``dask worker --resources GPU=1``). ``loaders`` are the plug-ins that have
    read controllers, and ``timeout`` the seconds after which a cell, or a piece of shared work, is given up.
    """

    controllers: Mapping[str, Controller]
    cells: tuple[Cell, ...]
    resources: Mapping[str, Mapping[str, float]]
    loaders: tuple[Plugin, ...] = ()
    timeout: float | None = None

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The random references that its cells are held against."""
        return tuple(dict.fromkeys(cell.reference for cell in self.cells))

    def whose(self, reference: Reference) -> Controller | None:
        """The controller in whose surroundings a reference's random actions are; None: on the plain task."""
        return None if reference.digest is None else self.controllers[reference.digest]

    @cached_property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plug-in that workers need."""
        different = {(cell.method, cell.subject, cell.stability): cell for cell in self.cells}
        return tuple(dict.fromkeys((*self.loaders, *(p for cell in different.values() for p in cell.plugins))))


@dataclass(frozen=True)
class ToDo:
    """What of a sweep is missing."""

    cells: tuple[Cell, ...]
    references: tuple[Reference, ...]

    def __bool__(self) -> bool:
        return bool(self.cells or self.references)


@dataclass(frozen=True)
class Failure:
    """A cell that failed, and why in one line."""

    cell: Cell
    error: str
