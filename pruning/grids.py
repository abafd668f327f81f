"""Grids of weights of few bits: whole numbers times a scale for each output and one for each input."""

from __future__ import annotations

import torch
from torch import Tensor

#: From so many bits down, the largest weight of an output may be clipped: what a coarse grid errs by everywhere is more
#: than what one weight loses. The scales that are compared, as shares of the one that clips nothing.
CLIPPED, SHARES = 4, (1.0, 0.9, 0.8, 0.7, 0.6)
#: How often both kinds of scales are refitted in turn.
_TURNS = 50


def most_of(bits: int) -> int:
    """The largest whole number of so many bits, of a range that is symmetric about zero."""
    return int(2 ** (bits - 1) - 1)


def scales(weight: Tensor, bits: int) -> Tensor:
    """The step of each weight of a matrix ``(out, in)``, an output's scale times an input's: a weight is a whole number
    of steps, of magnitude up to `most_of` the bits.

    An input's scale is its largest weight, of several outputs; of one it would be the weight itself. What varies little
    comes in with large weights, what varies much with small ones, and of one scale for all inputs of an output nothing
    would be left for those. Of several scales of an output it is the one with the least squared error, counted in an
    input's own scale.
    """
    most = most_of(bits)
    column = _largest(weight, 0) if len(weight) > 1 else torch.ones_like(weight)
    shares = weight / column
    full = _largest(shares, 1) / most
    if bits <= CLIPPED:
        tried = torch.stack([share * full for share in SHARES])
        errors = (whole(shares, tried, most) * tried - shares).square().sum(2, keepdim=True)
        full = tried.gather(0, errors.argmin(0, keepdim=True))[0]
    steps: Tensor = full * column
    return steps


def grid_of(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The scales ``(out,)`` and ``(in,)`` of the grid that a matrix ``(out, in)`` lies on, or nearly.

    `scales` of weights that are rounded already need not be those that they were rounded to, since the largest may have
    been clipped. From several multiples of them both kinds are fitted in turn by least squares, given the nearest
    whole numbers, and those that leave the least are taken.
    """
    most, begun = most_of(bits), scales(weight, bits)
    first = begun.square().mean(1, keepdim=True).sqrt()
    second = (begun / first).mean(0, keepdim=True)
    found = list[tuple[float, Tensor, Tensor]]()
    for share in dict.fromkeys((*SHARES, *(1 / share for share in SHARES))):
        rows, columns = share * first, second
        for _ in range(_TURNS):
            columns = _fitted(weight, rows, whole(weight, rows * columns, most), columns, 0)
            rows = _fitted(weight, columns, whole(weight, rows * columns, most), rows, 1)
        steps = rows * columns
        error = float((whole(weight, steps, most) * steps - weight).square().sum())
        found.append((error, rows[:, 0], columns[0]))
    return min(found, key=lambda entry: entry[0])[1:]


def whole(weight: Tensor, steps: Tensor, most: int) -> Tensor:
    """The nearest whole numbers of steps, up to a magnitude."""
    return (weight / steps).round().clamp(-most, most)


def _fitted(weight: Tensor, other: Tensor, units: Tensor, before: Tensor, dim: int) -> Tensor:
    """The scales along one axis that fit best, given those along the other one; those before where all is zero."""
    unscaled = units * other
    norm = unscaled.square().sum(dim, keepdim=True)
    fitted = (weight * unscaled).sum(dim, keepdim=True) / norm
    return torch.where(fitted > 0, fitted, before)


def _largest(weight: Tensor, dim: int) -> Tensor:
    """The largest magnitude along an axis; 1 where all is zero."""
    largest: Tensor = weight.abs().amax(dim, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)
