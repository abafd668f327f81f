"""Questions to a controller with a memory: along what it lived through, its states carried from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from prunectl.pruning.layers import carried_along

#: Windows a batch and steps of each that are taught, through which gradients pass; and steps before them, in which the
#: memory only comes to where it is now from where it was at the last replay (Kapturowski et al. 2019, R2D2's burn-in).
WINDOWS, TAUGHT, BURN_IN = 32, 16, 16
#: Further rows a batch, a step each from the dense controller's states: what a state says stays what it said there.
ANCHORED = 512
#: Batches from one replay of all episodes to the next.
REPLAYED = 100

#: A component's output, before and after the functions that follow its last layer.
Results = Mapping[str, tuple[Tensor, Tensor]]


class Memories:
    """The memories of a dataflow, apart from all that reads them.

    Args:
        flow: from the dataflow's inputs to the memories' states, as `pupil.outputs_of` gives them.
        carried: the memories by component, and which inputs their states are at the next step (`Controller.memories`).
    """

    def __init__(self, flow: fx.GraphModule, carried: Mapping[str, Sequence[int]]) -> None:
        self.flow, self.carried = flow, carried
        self.places = [place for places in carried.values() for place in places]

    def given(self, inputs: Sequence[Tensor], rows: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
        """What the dataflow takes at these rows, with these states."""
        own = dict(zip(self.places, states, strict=True))
        return [own[place] if place in own else tensor[rows] for place, tensor in enumerate(inputs)]

    def after(self, results: Results) -> list[Tensor]:
        """The states that a flow has given."""
        parts = (results[name][1].chunk(len(places), dim=-1) for name, places in self.carried.items())
        return [part for of_one in parts for part in of_one]

    def replayed(self, inputs: Sequence[Tensor], first: Tensor) -> tuple[Tensor, ...]:
        """The inputs, with the states that the memories have before each row; every episode begins with zeros.

        ``first`` ``(n,)`` says which rows begin one.
        """
        begins = first.nonzero()[:, 0]
        lengths = torch.diff(begins, append=begins.new_tensor([len(first)]))
        filled = list(inputs)
        for place in self.places:
            filled[place] = torch.zeros_like(inputs[place])
        with torch.no_grad():
            for step in range(int(lengths.max()) - 1):
                rows = (begins + step)[lengths > step + 1]
                given = self.given(inputs, rows, [filled[place][rows] for place in self.places])
                for place, state in zip(self.places, self.after(self.flow(*given)), strict=True):
                    filled[place][rows + 1] = state
        return tuple(filled)


class Windows:
    """Draws windows of the episodes and runs a dataflow along them; and single rows from the states that are given.

    Args:
        flow: from the dataflow's inputs to what is taught.
        memories: those that it reads.
        inputs: what was lived through, episode by episode, ``(n, ...)`` each, with the states of the dense one.
        first: which rows begin an episode ``(n,)``.
    """

    def __init__(self, flow: fx.GraphModule, memories: Memories, inputs: Sequence[Tensor], first: Tensor) -> None:
        self.memories, self.first = memories, first
        self.flow, self.given = flow, tuple(inputs)
        self.inputs = self.given  # with its own states, once they are replayed
        self.taught, self.burn_in = carried_along(flow, TAUGHT), carried_along(memories.flow, BURN_IN)
        begins = first.nonzero()[:, 0]
        ends = torch.cat([begins[1:], begins.new_tensor([len(first)])])
        episode = first.long().cumsum(0) - 1
        self.begins, self.ends = begins[episode], ends[episode]
        self.drawn = 0

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Results]:
        """The rows of a batch, and what the dataflow gives there."""
        if self.drawn % REPLAYED == 0:
            self.inputs = self.memories.replayed(self.inputs, self.first)
        self.drawn += 1
        row = torch.randint(len(self.first), (WINDOWS,), generator=generator)
        begin, end = self.begins[row], self.ends[row]
        row = torch.minimum(row, torch.maximum(end - TAUGHT, begin))
        # So near to its beginning an episode is taught from there, where the states are known.
        row = torch.where(row - begin < BURN_IN, begin, row)
        states = [state.masked_fill(_like(row == begin, state), 0.0) for state in self._warm(row)]
        rows = row + torch.arange(TAUGHT)[:, None]
        lived = (rows < end).flatten()
        rows = torch.minimum(rows, end - 1).flatten()
        results: Results = self.taught(*self.memories.given(self.inputs, rows, states))
        anchored = torch.randint(len(self.first), (ANCHORED,), generator=generator)
        others: Results = self.flow(*(tensor[anchored] for tensor in self.given))
        return torch.cat([rows[lived], anchored]), {
            name: (torch.cat([before[lived], others[name][0]]), torch.cat([after[lived], others[name][1]]))
            for name, (before, after) in results.items()
        }

    def _warm(self, row: Tensor) -> list[Tensor]:
        """The states before these rows, run up to there from some steps before."""
        rows = (row + torch.arange(-BURN_IN, 0)[:, None]).clamp_min(0)
        states = [self.inputs[place][rows[0]] for place in self.memories.places]
        with torch.no_grad():
            after = self.memories.after(self.burn_in(*self.memories.given(self.inputs, rows.flatten(), states)))
        return [state[-len(row) :] for state in after]


def _like(which: Tensor, values: Tensor) -> Tensor:
    return which.reshape(-1, *(1,) * (values.dim() - 1))
