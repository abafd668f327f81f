"""Bytes that act: what the numbers of the components that act take, by the way they are stored."""

from __future__ import annotations

#: Bytes of a float, and of the place of a number among those that are not zero.
FLOAT, PLACE = 4, 2


def float_bytes(left: int) -> int:
    """Bytes of so many numbers as floats, one after another; of the factors where layers are of low rank."""
    return FLOAT * left


def sparse_bytes(left: int, dense: int) -> int:
    """Bytes of the ``left`` of ``dense`` numbers that are not zero, each with its place; as plain floats where that is
    less."""
    return min((FLOAT + PLACE) * left, FLOAT * dense)
