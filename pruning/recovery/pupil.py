"""A smaller controller that is taught to answer as the dense one does: labelled data, the loss, the optimiser."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from prunectl.agents.controller import Choice, Controller
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.layers import stacks, writes
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.recovery.descent import Adam
from prunectl.pruning.recovery.sequences import Memories, Results, Windows
from prunectl.pruning.rounding import Rounded, round_to, weights_of
from prunectl.pruning.surgery import kept_part, select_inputs
from prunectl.pruning.tracing import calls

C = TypeVar("C", bound=Controller)

#: Rows a batch, and Adam's first step size in a lesson; it falls to ``LAST`` of that along a cosine.
ROWS, STEP, LAST = 512, 5e-3, 2e-3
#: How much of the matching loss is added to the squared error.
MATCHING = 0.1
#: The temperature at which values are compared as choices, as a share of their spread between options.
TEMPERATURE = 0.1
#: What a memory's error counts for, beside those of the components that read it.
STATES = 10.0
#: How much of an action's error counts by what it costs, where critics say that; the rest counts everywhere alike.
COSTLY = 0.8


@dataclass(frozen=True)
class Lesson:
    """Questions and answers: ``inputs`` as the smaller dataflow takes them, ``(n, ...)`` each; ``answers`` the dense
    components' outputs by name ``(n, outputs)``, of a flow only the units that are left; ``allowed`` which options
    there were to choose among ``(n, options)``, where not all of them need be; ``first`` ``(n,)`` which rows begin an
    episode that the following ones go on with, where that is known; ``costs`` what an error of the actor costs, a
    quadratic form a row ``(n, actions, actions)`` in any unit, where critics say that (`critics`)."""

    inputs: tuple[Tensor, ...]
    answers: Mapping[str, Tensor]
    allowed: Tensor | None = None
    first: Tensor | None = None
    costs: Tensor | None = None

    def __add__(self, other: Lesson) -> Lesson:
        inputs = tuple(torch.cat(pair) for pair in zip(self.inputs, other.inputs, strict=True))
        answers = {name: torch.cat([own, other.answers[name]]) for name, own in self.answers.items()}
        told = (_both(getattr(self, name), getattr(other, name)) for name in ("allowed", "first", "costs"))
        return Lesson(inputs, answers, *told)


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    told = [tensor for tensor in (one, other) if tensor is not None]
    return torch.cat(told) if told else None


def lesson(
    teacher: Controller, graph: ComponentGraph, plan: PruningPlan, inputs: Sequence[Tensor], names: Collection[str]
) -> Lesson:
    """What the dense controller's components ``names`` answer to these inputs of its dataflow."""
    with torch.no_grad():
        results = outputs_of(teacher.dataflow(), names)(*inputs)
    answers = {}
    for name, (_, answer) in results.items():
        answers[name] = kept_part(answer, graph.output_axes[name], plan.kept)
    return Lesson(tuple(select_inputs(inputs, graph, plan.kept)), answers)


class Pupil:
    """Some components of a controller and their optimiser. Their parameters are changed in place.

    Args:
        controller: a copy that may be changed.
        names: the components to teach.
        seed: for the draw of batches.
        bits: of its weights, which are rounded now and after every step; None for floats.
    """

    def __init__(self, controller: Controller, names: Collection[str], seed: int, bits: int | None = None) -> None:
        self.dataflow, self.choices, self.memories = controller.dataflow(), controller.choices, controller.memories
        modules = {name: controller.components[name].module for name in names}
        self.parameters = list(dict.fromkeys(p for module in modules.values() for p in module.parameters()))
        controller.networks.requires_grad_(False)  # what others learn has no gradient here
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimiser = Adam(self.parameters)
        self.generator = torch.Generator().manual_seed(seed)
        self.bits = bits
        self.weights = {name: weights_of(module) for name, module in modules.items()}
        if bits is not None:
            round_to(chain.from_iterable(self.weights.values()), bits)

    def learn(self, lesson: Lesson, batches: int, names: Collection[str]) -> None:
        """Descend these components' loss over batches drawn from the lesson, the step size along half a cosine."""
        flow = outputs_of(self.dataflow, names)
        spread = {name: lesson.answers[name].var(dim=0).mean().clamp_min(1e-8) for name in names}
        factors = {name: (STATES if name in self.memories else 1.0) * (1 / spread[name]) for name in names}
        units = {name: temperature(self.choices[name], lesson.answers[name]) for name in names if name in self.choices}
        costs = {} if lesson.costs is None else {"actor": _mixed(lesson.costs)}
        rounded = None
        if self.bits is not None:
            # Of these components alone: what was rounded once is not always what rounding leaves as it is.
            rounded = Rounded([weight for name in names for weight in self.weights[name]], self.bits)
        for batch, (drawn, results) in enumerate(self._batches(flow, lesson, batches)):
            roots, slopes = list[Tensor](), list[Tensor]()
            for name, (before, after) in results.items():
                wanted, choice = lesson.answers[name].index_select(0, drawn), self.choices.get(name)
                if choice is not None:
                    allowed = None if lesson.allowed is None else lesson.allowed[drawn]
                    roots.append(after)
                    slopes.append(choice_slope(choice, after, wanted, units[name], allowed))
                if choice is None or choice.valued:
                    cost = costs[name][drawn] if name in costs else None
                    before = before if before.shape == after.shape else after  # a number made of many has none before
                    inner, outer = error_slopes(before, after, wanted, factors[name], cost)
                    roots += [after] if before is after else [before, after]
                    slopes += [inner + outer] if before is after else [inner, outer]
            gradients = torch.autograd.grad(roots, self.parameters, slopes, allow_unused=True)
            share = 0.5 * (1 + math.cos(math.pi * batch / batches))
            move = partial(self.optimiser.step, gradients, STEP * (LAST + (1 - LAST) * share))
            if rounded is None:
                move()
            else:
                rounded.step(move)

    def _batches(self, flow: fx.GraphModule, lesson: Lesson, count: int) -> Iterator[tuple[Tensor, Results]]:
        """The rows of so many batches, and what the dataflow gives there."""
        if lesson.first is not None:
            windows = Windows(flow, self._recall(flow), lesson.inputs, lesson.first)
            for _ in range(count):
                yield windows.draw(self.generator)
            return
        for drawn in torch.randint(len(lesson.inputs[0]), (count, ROWS), generator=self.generator):
            yield drawn, flow(*(tensor.index_select(0, drawn) for tensor in lesson.inputs))

    def _recall(self, flow: fx.GraphModule) -> Memories:
        """The memories that a flow reads."""
        places = [node for node in flow.graph.nodes if node.op == "placeholder"]
        read = {name: own for name, own in self.memories.items() if any(places[place].users for place in own)}
        return Memories(outputs_of(self.dataflow, read), read)

    def errors(self, lesson: Lesson) -> dict[str, float]:
        """The mean squared error of each component's output, as a share of the answers' variance. Choices are compared
        by their probabilities, and values by both: the larger share counts."""
        flow, inputs = outputs_of(self.dataflow, lesson.answers), lesson.inputs
        if lesson.first is not None:
            inputs = self._recall(flow).replayed(inputs, lesson.first)
        with torch.no_grad():
            results = flow(*inputs)
        shares = {}
        for name, (_, after) in results.items():
            wanted, choice = lesson.answers[name], self.choices.get(name)
            compared = [(after, wanted)] if choice is None or choice.valued else []
            if choice is not None:
                scale = temperature(choice, wanted)
                pairs = zip(choice.logits(after, lesson.allowed), choice.logits(wanted, lesson.allowed), strict=True)
                compared += [((own / scale).softmax(dim=1), (dense / scale).softmax(dim=1)) for own, dense in pairs]
            shares[name] = max(_share(own, dense) for own, dense in compared)
        return shares

    def state(self) -> list[Tensor]:
        """A copy of the parameters."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def load(self, state: Sequence[Tensor]) -> None:
        """Set the parameters to what `state` gave."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state, strict=True):
                parameter.copy_(value)


def error_slopes(
    before: Tensor, after: Tensor, wanted: Tensor, weight: Tensor, cost: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients of a component's loss with respect to its output before and after squashing or clipping.

    Both are ``(n, outputs)``, as ``before``, ``after`` and the dense one's answers ``wanted`` are. The loss is the mean
    squared error and a tenth of the matching loss, times ``weight``. Where squashing is flat, the squared error has no
    gradient, so a row on the wrong side of a bound would stay there. The matching loss of a transfer function (Helmbold
    et al. 1999) has the gradient ``after - wanted`` with respect to ``before`` whatever the slope. With
    ``cost`` ``(n, outputs, outputs)`` the square of an error is its quadratic form.
    """
    error = (after - wanted).detach()
    share, pull = weight / error.numel(), weight * MATCHING / error.numel()
    if cost is None:
        return error * pull, error * (2 * share)
    felt = (cost @ error[:, :, None])[:, :, 0]
    return felt * pull, felt * share + (cost.mT @ (error * share)[:, :, None])[:, :, 0]


def _mixed(costs: Tensor) -> Tensor:
    """Quadratic forms whose diagonals are 1 in the mean over rows, with a share of the identity."""
    each = costs.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    return COSTLY * costs / each + (1 - COSTLY) * torch.eye(costs.shape[1])


def choice_slope(choice: Choice, after: Tensor, wanted: Tensor, unit: float, allowed: Tensor | None = None) -> Tensor:
    """The gradient with respect to outputs ``(n, outputs)`` of the `choice_loss` of what they choose among, compared in
    this unit (`temperature`)."""
    answer = after.detach().requires_grad_()
    pairs = zip(choice.logits(answer, allowed), choice.logits(wanted, allowed), strict=True)
    total = torch.stack([choice_loss(own / unit, dense / unit) for own, dense in pairs]).sum()
    (slope,) = torch.autograd.grad(total, answer)
    return slope


def choice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy from the dense controller's choice probabilities; ``wanted`` are its logits."""
    return nn.functional.cross_entropy(logits, wanted.softmax(dim=1))


def temperature(choice: Choice, answers: Tensor) -> float:
    """What outputs are divided by to be compared as logits: a share of the usual spread of values between options.

    At a low temperature a softmax of values tells the greedy option from the next best (Rusu et al. 2016, policy
    distillation). Logits stay as they are.
    """
    if not choice.valued:
        return 1.0
    (values,) = choice.logits(answers)
    return max(TEMPERATURE * float(values.std(dim=1, correction=0).mean()), 1e-8)


def _share(values: Tensor, wanted: Tensor) -> float:
    """The mean squared error as a share of the variance."""
    return float((values - wanted).square().mean() / wanted.var(dim=0).mean().clamp_min(1e-8))


def outputs_of(dataflow: nn.Module, names: Collection[str]) -> fx.GraphModule:
    """The dataflow with the outputs of these components alone, and nothing computed for the others.

    It gives each output as it is before and after the functions that follow its last linear layer.
    """
    graph = calls(dataflow)
    *_, end = graph.nodes
    results: dict[str, fx.Node] = end.args[0]
    end.args = ({name: (_before(dataflow, results[name]), results[name]) for name in names},)
    flow = fx.GraphModule(dataflow, graph)
    flow.graph.eliminate_dead_code()
    flow.recompile()
    return flow


def products_called(flow: fx.GraphModule) -> set[str]:
    """Names of the matrix products that a dataflow uses."""
    called = {str(node.target) for node in flow.graph.nodes if node.op == "call_module"}
    products = [product for path in called for product in writes(path, flow.get_submodule(path))]
    products += [product for stack in stacks(flow, flow.graph) for product in stack.products()]
    return {product.name for product in products}


def _before(dataflow: nn.Module, output: fx.Node) -> fx.Node:
    """The layer's value that an output is a function of; the output itself if that is not all it is made of."""
    node = output
    while not (node.op == "call_module" and writes(str(node.target), dataflow.get_submodule(str(node.target)))):
        if len(node.all_input_nodes) != 1:
            return output
        (node,) = node.all_input_nodes
    return node


def redrawn(controller: C, seed: int) -> C:
    """A copy whose components' layers are drawn afresh, each as PyTorch draws its kind."""
    networks = copy.deepcopy(controller.networks)
    fresh = controller.with_networks(networks)
    with torch.random.fork_rng(devices=[]):
        # Not the bare seed, from which the controller itself may have been drawn.
        torch.manual_seed(0x5C7A + seed)
        for component in fresh.components.values():
            for module in component.module.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
    return fresh
