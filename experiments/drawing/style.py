"""The look of everything that is drawn: one place, so that a method looks the same in every figure and on every page.

Colour and marker say what is cut (grouping, importance, allocation); the dashes, and how far markers are filled, say
how it is recovered. Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which the colour-blind tell apart,
without the yellow that white paper swallows; who prints in grey has the markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, TypeVar
from zlib import crc32

from prunectl.pruning import ALLOCATIONS, GROUPINGS, IMPORTANCES, Method
from prunectl.pruning.method import LIBRARIES

T = TypeVar("T")

#: Settings of matplotlib for every figure.
LOOK: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.2,
    "pdf.fonttype": 42,
}
#: Lines of reference: the dense controller, random actions, even chances.
REFERENCE = "#595959"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, OLIVE = COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#999933",
)
#: matplotlib's name and plotly's of each marker, the plainest first.
MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
    ("p", "pentagon"),
    ("*", "star"),
    ("h", "hexagon"),
    ("<", "triangle-left"),
    (">", "triangle-right"),
    ("d", "diamond-tall"),
    ("8", "octagon"),
    ("H", "hexagon2"),
    ("+", "cross-thin"),
    ("x", "x-thin"),
    ("1", "y-down"),
    ("2", "y-up"),
    ("3", "y-left"),
    ("4", "y-right"),
    (r"$\oplus$", "circle-cross"),
    (r"$\otimes$", "circle-x"),
    (r"$\boxplus$", "square-cross"),
    (r"$\boxtimes$", "square-x"),
    (r"$\bowtie$", "bowtie"),
    (r"$\ast$", "asterisk"),
    (r"$\#$", "hash"),
)
#: For cuts that have come later, so that what is drawn by its name stays as it is.
MORE_MARKERS = (
    *MARKERS,
    (r"$\odot$", "hourglass"),
    (r"$\boxdot$", "star-square"),
    (r"$\circledast$", "hexagram"),
    (r"$\diamondsuit$", "diamond-x"),
    (r"$\bigstar$", "star-diamond"),
    (r"$\triangledown$", "star-triangle-down"),
    (r"$\vartriangle$", "star-triangle-up"),
    (r"$\clubsuit$", "diamond-cross"),
    (r"$\spadesuit$", "arrow-up"),
    (r"$\heartsuit$", "arrow-down"),
    (r"$\ominus$", "arrow-left"),
    (r"$\oslash$", "arrow-right"),
    (r"$\boxminus$", "arrow-bar-up"),
    (r"$\dagger$", "arrow-bar-down"),
    (r"$\ddagger$", "arrow-bar-left"),
    (r"$\natural$", "arrow-bar-right"),
    (r"$\flat$", "triangle-ne"),
    (r"$\sharp$", "triangle-se"),
    (r"$\wr$", "triangle-sw"),
    (r"$\propto$", "triangle-nw"),
    (r"$\wp$", "diamond-wide"),
)
#: The libraries' own pruners, the baselines, stay out of the colours.
_BASELINES = {
    "stock-global": ("#000000", "x", "x-thin"),
    "stock-local": ("#808080", "+", "cross-thin"),
    "stock-isomorphic": ("#505050", "1", "y-down"),
    "stock-global-max": ("#303030", "3", "y-left"),
    "stock-global-sum": ("#606060", "4", "y-right"),
    "stock-global-gaussian": ("#909090", "<", "triangle-left"),
    "stock-global-raw": ("#B3B3B3", ">", "triangle-right"),
    "unstructured": ("#A6A6A6", "*", "star"),
    "lowrank": ("#707070", "2", "y-up"),
}
#: What is compared most gets the colours that differ most; all other cuts follow in a fixed order.
_FIRST = (
    ("component", "surgeon", "uniform"),
    ("global", "magnitude", "uniform"),
    ("global", "surgeon", "uniform"),
    ("component", "magnitude", "uniform"),
    ("component", "surgeon", "sensitivity"),
    ("component", "surgeon", "searched"),
    ("component", "activation", "ranked"),
    ("component", "surgeon", "ranked"),
    *(("component", importance, "uniform") for importance in IMPORTANCES.builtin),
)
#: Groupings that came later, in that order.
_LATER = ("inputs", "chosen", "coupled", "bounded")
#: matplotlib's dashes and plotly's of each recovery, and how white its markers are inside.
_RECOVERIES: dict[str, tuple[Any, str, float]] = {
    "none": ((0, (4, 2)), "dash", 1.0),
    "reconstruct": ("-", "solid", 0.6),
    "distill": ((0, (5, 1.5, 1, 1.5)), "dashdot", 0.0),
    "distill-critic": ((0, (9, 2, 1, 2)), "longdashdot", 0.15),
    "distill-restarts": ((0, (5, 1.5, 1, 1.5, 5, 4)), "8px,2px,2px,2px,8px,5px", 0.3),
    "distill-int8": ((0, (5, 1.5, 1, 1.5, 1, 1.5)), "5px,2px,1px,2px,1px,2px", 0.45),
    "distill-int4": ((0, (3, 1.5, 1, 1.5)), "3px,2px,1px,2px", 0.7),
    "scratch": ((0, (1, 1)), "dot", 0.8),
    "finetune": ((0, (9, 3)), "longdash", 0.3),
    "polish": ((0, (7, 1.5, 1, 1.5, 1, 1.5)), "7px,2px,1px,2px,1px,2px", 0.0),
}
#: The same for the recoveries of plug-ins.
_FOREIGN_RECOVERIES: tuple[tuple[Any, str, float], ...] = (
    ((0, (6, 1)), "12px,2px", 0.45),
    ((0, (3, 1, 1, 1)), "6px,2px,2px,2px", 0.15),
    ((0, (3, 1, 1, 1, 1, 1)), "6px,2px,2px,2px,2px,2px", 0.7),
)
#: What passes between components, and each role that a component can have.
FLOW = VERMILLION
_ROLES = {
    "actor": BLUE,
    "critic": ORANGE,
    "value": ORANGE,
    "encoder": GREEN,
    "encoder_actor": GREEN,
    "encoder_critic": OLIVE,
    "encoder_value": OLIVE,
    "dynamics": PURPLE,
    "reward": SKY,
}


@dataclass(frozen=True)
class Look:
    """How one method is drawn.

    ``colour`` and ``fill`` (of markers) are ``#RRGGBB``; ``marker`` and ``dash`` are what matplotlib takes, ``symbol``
    and ``plotly_dash`` what plotly does.
    """

    colour: str
    fill: str
    marker: str
    symbol: str
    dash: Any
    plotly_dash: str

    @property
    def points(self) -> dict[str, Any]:
        """What `Axes.plot` takes for the markers."""
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": self.fill}

    @property
    def line(self) -> dict[str, Any]:
        """What `Axes.plot` takes for a line with its markers."""
        return self.points | {"linestyle": self.dash}


def look(method: Method) -> Look:
    """The method's look, whichever others are drawn beside it."""
    cut = method.grouping, method.importance, method.allocation
    colour, marker, symbol = _baseline_look(method) or _cut_look(cut)
    recovery, _, _ = method.recovery.partition("[")  # in steps or not, it is dashed alike
    dash, plotly_dash, white = _RECOVERIES.get(recovery) or _drawn_by(recovery, _FOREIGN_RECOVERIES)
    return Look(colour, _paler(colour, white), marker, f"{symbol}-open" if white == 1 else symbol, dash, plotly_dash)


def _baseline_look(method: Method) -> tuple[str, str, str] | None:
    """A library's pruner keeps its grey; by another importance than it comes with, it has another marker."""
    if (found := _BASELINES.get(method.grouping)) is None:
        return None
    others = GROUPINGS[method.grouping].importances[1:]
    return (found[0], *MARKERS[others.index(method.importance)]) if method.importance in others else found


def _cut_look(cut: tuple[str, str, str]) -> tuple[str, str, str]:
    """Colour and marker of a cut; with shares set beside it, another colour than the cut has without them, and than
    other cuts have with the same ones."""
    grouping, bracket, shares = cut[0].partition("[")
    plain = grouping, cut[1], cut[2]
    colour, marker, symbol = _cut_looks().get(plain) or _foreign_cut(plain)
    if not bracket:
        return colour, marker, symbol
    first = COLOURS.index(colour) + 1 if colour in COLOURS else 0
    moved = first + crc32(shares.encode()) % (len(COLOURS) - 1)
    return (COLOURS[moved % len(COLOURS)], *_drawn_by(f"{' '.join(cut)} marker", MARKERS))


def _foreign_cut(cut: tuple[str, str, str]) -> tuple[str, str, str]:
    """Colour and marker of a cut with a plug-in's name: drawn by its names, since there is no end of them."""
    name = " ".join(cut)
    return (_drawn_by(name, COLOURS), *_drawn_by(f"{name} marker", MARKERS))


def _drawn_by(name: str, choices: Sequence[T]) -> T:
    """The same choice for the same name wherever and whenever it is made."""
    return choices[crc32(name.encode()) % len(choices)]


def component_colour(name: str) -> str:
    """The colour of a component by its role (``critic.1`` is a lighter ``critic.0``), or of a flow, which names its
    readers."""
    if "->" in name:
        return FLOW
    role, _, number = name.partition(".")
    colour = _ROLES.get(role) or COLOURS[crc32(role.encode()) % len(COLOURS)]
    return _paler(colour, 1 - 0.6 ** int(number)) if number.isdigit() else colour


def _paler(colour: str, white: float) -> str:
    """The colour with this share of white."""
    return _mixed(colour, white, 255)


def _darker(colour: str, black: float) -> str:
    """The colour with this share of black."""
    return _mixed(colour, black, 0)


def _mixed(colour: str, share: float, end: int) -> str:
    channels = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (end - channel) * share):02X}" for channel in channels)


@cache
def _cut_looks() -> dict[tuple[str, str, str], tuple[str, str, str]]:
    """Colour and marker of each cut. Markers move on by one with every round of the colours, and to seven others once
    all seven have had every colour; when every marker has, the colours go on in darker ones. No pair comes twice."""
    groupings = [name for name in GROUPINGS.builtin if name not in LIBRARIES]
    # Those that came later come last, so that figures keep their looks.
    shorter = [name for name in groupings if GROUPINGS[name].begins is not None]
    plain = [name for name in groupings if name not in (*shorter, *_LATER)]
    cuts = (
        *_FIRST,
        *((g, i, a) for i, g, a in product(IMPORTANCES.builtin, plain, ALLOCATIONS.builtin)),
        *((g, i, "uniform") for g, i in product(shorter, IMPORTANCES.builtin)),
        *((g, i, a) for g, i, a in product(_LATER, IMPORTANCES.builtin, ALLOCATIONS.builtin)),
    )
    looks = {}
    for number, cut in enumerate(dict.fromkeys(cuts)):
        turn, number = divmod(number, 7 * len(MORE_MARKERS))
        rounds, place = divmod(number, 7)
        marker, symbol = MORE_MARKERS[(rounds // 7 * 7 + (rounds + place) % 7) % len(MORE_MARKERS)]
        looks[cut] = (_darker(COLOURS[place], 0.45 * turn), marker, symbol)
    return looks
