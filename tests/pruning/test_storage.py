"""Bytes that act, counted by hand."""

from __future__ import annotations

from prunectl.pruning.storage import float_bytes, sparse_bytes


def test_bytes_of_floats_and_of_sparse_ones() -> None:
    assert float_bytes(10) == 40
    assert sparse_bytes(10, 100) == 60
    assert sparse_bytes(90, 100) == 400  # with their places they would take 540
