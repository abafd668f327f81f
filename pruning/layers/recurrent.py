"""Recurrent layers: a hidden unit is a row in each gate and a column of every matrix that reads the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunectl.pruning.errors import PruningError
from prunectl.pruning.layers.base import Kind, Product, Run, Value, Watch, only
from prunectl.pruning.spaces import Part, Parts

#: Gates that a hidden unit has, each a run of rows: input, forget, cell, output; reset, update, new; the one.
_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


class Recurrent(Kind):
    """LSTM, GRU and RNN, over sequences or a step at a time.

    What an LSTM or RNN layer adds up before its gates is one product, of what it reads and its last state side by side;
    a GRU, whose new state takes a gate of the one alone, has two. All layers of a module are equally wide, and their
    units leave together, since their states come in one tensor.
    """

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        value, states = _given(path, layer, arguments, named)
        if getattr(layer, "bidirectional", False) or getattr(layer, "proj_size", 0):
            raise PruningError(f"layer '{path}': no units are known of a bidirectional or projected {_name(layer)}")
        hidden = run.spaces.axis(layer.hidden_size)
        for state in states:
            run.spaces.unify(hidden, state.axes[-1], path)
        if not _is_cell(layer):
            sequence = value.axes[1 if layer.batch_first else 0]
            run.spaces.freeze(sequence, path)
        first = next(iter(_flat(output)))
        reads = value.axes[-1]
        for number, (weights, biases) in enumerate(_parameters(layer)):
            names = _names(path, layer, number)
            gates = hidden * _gates(layer)
            steps = first.unsqueeze(0).expand(_gates(layer), *first.shape).movedim(0, -1).flatten(-2)
            steps = steps if _is_cell(layer) or layer.batch_first else steps.movedim(0, 1)
            given = [reads, hidden] if len(names) == 2 else [reads + hidden]
            for name, columns in zip(names, given, strict=True):
                run.spaces.unify(run.product(name, columns, gates, steps), gates, path)
            for weight, columns in zip(weights, (reads, hidden), strict=True):
                run.own(weight, (gates, columns))
            for bias in biases:
                run.own(bias, (gates,))
            reads = hidden
        return _axes(layer, value, hidden, output)

    def products(self, path: str, layer: Any) -> tuple[Product, ...]:
        found: list[Product] = []
        for number, (weights, biases) in enumerate(_parameters(layer)):
            names = _names(path, layer, number)
            if len(names) == 2:
                of = [biases[:1], biases[1:]]
                found += [Product(name, (w,), b) for name, w, b in zip(names, weights, of, strict=True)]
            else:
                found.append(Product(names[0], weights, biases))
        return tuple(found)

    def run(self, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch) -> Any:
        states = arguments[1] if len(arguments) > 1 else named.get("hx")
        if _is_cell(layer):
            return self._cell(path, layer, arguments[0], states, watch)
        values = arguments[0] if layer.batch_first else arguments[0].transpose(0, 1)
        if states is None:
            zeros = values.new_zeros(layer.num_layers, len(values), layer.hidden_size)
            states = (zeros, zeros) if _gates(layer) == 4 else zeros
        products = iter(self.products(path, layer))
        last: list[tuple[Tensor, ...]] = []
        for number in range(layer.num_layers):
            own = tuple(state[number] for state in (states if isinstance(states, tuple) else (states,)))
            mine = [next(products) for _ in range(len(_names(path, layer, number)))]
            values, own = _through(layer, mine, values, own, watch)
            last.append(own)
        stacked = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        written = values if layer.batch_first else values.transpose(0, 1)
        return written, stacked if _gates(layer) == 4 else stacked[0]

    def _cell(self, path: str, layer: Any, values: Tensor, states: Any, watch: Watch) -> Any:
        if states is None:
            zeros = values.new_zeros(len(values), layer.hidden_size)
            states = (zeros, zeros) if _gates(layer) == 4 else zeros
        own = states if isinstance(states, tuple) else (states,)
        _, own = _through(layer, self.products(path, layer), values[:, None], tuple(own), watch)
        return own if _gates(layer) == 4 else own[0]

    def restate(self, layer: Any) -> None:
        (weights, _), *_ = _parameters(layer)
        layer.input_size, layer.hidden_size = weights[0].shape[1], weights[1].shape[1]
        if not _is_cell(layer):
            layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]


def carried_along(flow: fx.GraphModule, steps: int) -> fx.GraphModule:
    """The flow for rows that follow each other, step by step ``(steps x n, ...)``: its LSTMs take the states before the
    first steps ``(n, ...)`` and carry them along."""
    copied = fx.GraphModule(flow, flow.graph)
    for path, module in list(copied.named_modules()):
        if isinstance(module, nn.LSTM):
            copied.set_submodule(path, Along(module, steps))
    return copied


class Along(nn.Module):
    """An LSTM called on rows of one step each, ``(1, steps x n, in)``, that follow each other step by step.

    It takes the states before the first step ``(layers, n, hidden)`` and gives those after every one, ``(layers, steps
    x n, hidden)`` each; gradients pass through them.
    """

    def __init__(self, lstm: nn.LSTM, steps: int) -> None:
        super().__init__()
        self.lstm, self.steps = lstm, steps

    def forward(self, rows: Tensor, states: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        values = rows.reshape(self.steps, -1, rows.shape[-1])
        hidden, cells = [], []
        for weights, *before in zip(self.lstm.all_weights, *states, strict=True):
            values, cell = _lived(values, weights, before[0], before[1])
            hidden.append(values.flatten(0, 1))
            cells.append(cell.flatten(0, 1))
        return hidden[-1][None], (torch.stack(hidden), torch.stack(cells))


def _lived(values: Tensor, weights: Sequence[Tensor], hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and cells ``(steps, n, hidden)`` after each of the steps ``(steps, n, in)``."""
    biased = len(weights) > 2
    outputs = torch.lstm(values, (hidden[None], cell[None]), list(weights), biased, 1, 0.0, False, False, False)[0]
    # One call gives all outputs and the last cell alone: the others follow from the gates, which follow from those.
    before = torch.cat([hidden[None], outputs[:-1]])
    gates = nn.functional.linear(values, weights[0], weights[2] if biased else None)
    gates = gates + nn.functional.linear(before, weights[1], weights[3] if biased else None)
    write, forget, new, _ = gates.chunk(4, dim=-1)
    added, kept, cells = write.sigmoid() * new.tanh(), forget.sigmoid(), [cell]
    for add, keep in zip(added.unbind(), kept.unbind(), strict=True):
        cells.append(torch.addcmul(add, keep, cells[-1]))
    return outputs, torch.stack(cells[1:])


def _through(
    layer: Any, products: Sequence[Product], values: Tensor, states: tuple[Tensor, ...], watch: Watch
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer over ``(n, steps, in)``: its outputs ``(n, steps, hidden)`` and its last states."""
    known = watch.states(products[-1])
    if known is not None:  # the products see the states that they are to learn from, before they make any themselves
        for product, side in zip(products, _sides(products, values, known), strict=True):
            watch.before(product, side if side.shape[1] > 1 else side[:, 0])
    steps = values.shape[1]
    if steps == 1 or not torch.is_grad_enabled():
        seen, outputs, states = _walk(layer, products, values, states)
        for product, sides in zip(products, seen, strict=True):
            given, written = (side[0] if steps == 1 else torch.stack(side, 1) for side in sides)
            watch.after(product, given, written)
        return torch.stack(outputs, 1), states
    # What is asked for gradients has to be one tensor over all steps, and each step depends on the one before: so the
    # values are found first, and then passed through again, equal to what they were and open to both gradients.
    with torch.no_grad():
        found, *_ = _walk(layer, products, values, states)
    handles = [[torch.stack(side, 1).requires_grad_() for side in pair] for pair in found]
    _, outputs, states = _walk(layer, products, values, states, handles)
    for product, (read, made) in zip(products, handles, strict=True):
        watch.after(product, read, made)
    return torch.stack(outputs, 1), states


_Seen = list[tuple[list[Tensor], list[Tensor]]]


def _walk(
    layer: Any,
    products: Sequence[Product],
    values: Tensor,
    states: tuple[Tensor, ...],
    handles: Sequence[Sequence[Tensor]] | None = None,
) -> tuple[_Seen, list[Tensor], tuple[Tensor, ...]]:
    """Step by step: what each product read and wrote, the outputs, and the last states."""
    seen: _Seen = [([], []) for _ in products]
    matrices = [torch.cat([weight.flatten(1) for weight in product.weights], dim=1).T for product in products]
    outputs = []
    for step in range(values.shape[1]):
        sums = []
        for number, side in enumerate(_sides(products, values[:, step], states[0])):
            if handles is not None:
                side = handles[number][0][:, step] + (side - side.detach())
            gates = side @ matrices[number]
            for bias in products[number].biases:
                gates = gates + bias
            if handles is not None:
                gates = handles[number][1][:, step] + (gates - gates.detach())
            seen[number][0].append(side)
            seen[number][1].append(gates)
            sums.append(gates)
        states = _step(layer, sums, states)
        outputs.append(states[0])
    return seen, outputs, states


def _sides(products: Sequence[Product], values: Tensor, hidden: Tensor) -> list[Tensor]:
    return [values, hidden] if len(products) == 2 else [torch.cat([values, hidden], dim=-1)]


def _step(layer: Any, sums: Sequence[Tensor], states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    match _gates(layer):
        case 4:
            write, forget, cell, show = sums[0].chunk(4, dim=-1)
            kept = torch.sigmoid(forget) * states[1] + torch.sigmoid(write) * torch.tanh(cell)
            return torch.sigmoid(show) * torch.tanh(kept), kept
        case 3:
            (reset, update, new), (reset_h, update_h, new_h) = (side.chunk(3, dim=-1) for side in sums)
            share = torch.sigmoid(update + update_h)
            fresh = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
            return ((1 - share) * fresh + share * states[0],)
        case _:
            return (torch.relu(sums[0]) if layer.nonlinearity == "relu" else torch.tanh(sums[0]),)


def _given(
    path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Value, tuple[Value, ...]]:
    """What it reads, and the states that it starts from, if it is given any."""
    states = arguments[1] if len(arguments) > 1 else named.get("hx")
    value = only(path, layer, arguments[:1], {})
    if len(arguments) > 2 or set(named) - {"hx"} or value.tensor.dim() != (2 if _is_cell(layer) else 3):
        raise PruningError(f"layer '{path}' ({_name(layer)}) is not called with rows and its states alone")
    return value, () if states is None else states if isinstance(states, tuple) else (states,)


def _axes(layer: Any, value: Value, hidden: Parts, output: Any) -> Any:
    """The axes of what it gives, as that is nested."""
    rows = value.axes[0] if _is_cell(layer) or layer.batch_first else value.axes[1]
    if _is_cell(layer):
        return ((rows, hidden), (rows, hidden)) if _gates(layer) == 4 else (rows, hidden)
    state = ((Part(None, layer.num_layers),), rows, hidden)
    return (*value.axes[:-1], hidden), (state, state) if _gates(layer) == 4 else state


def _parameters(layer: Any) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]]:
    """For each layer its weights, for what it reads and for its state, and its biases."""
    for number in range(getattr(layer, "num_layers", 1)):
        end = "" if _is_cell(layer) else f"_l{number}"
        weights = getattr(layer, f"weight_ih{end}"), getattr(layer, f"weight_hh{end}")
        biases = (getattr(layer, f"bias_ih{end}"), getattr(layer, f"bias_hh{end}")) if layer.bias else ()
        yield weights, biases


def _names(path: str, layer: Any, number: int) -> tuple[str, ...]:
    base = path if getattr(layer, "num_layers", 1) == 1 else f"{path}.{number}"
    return (f"{base}.input", f"{base}.state") if _gates(layer) == 3 else (base,)


def _gates(layer: Any) -> int:
    return _GATES[type(layer)]


def _is_cell(layer: Any) -> bool:
    return isinstance(layer, nn.RNNCellBase)


def _name(layer: Any) -> str:
    return type(layer).__name__


def _flat(output: Any) -> Iterator[Tensor]:
    for part in output if isinstance(output, tuple) else (output,):
        yield part if isinstance(part, Tensor) else next(_flat(part))
