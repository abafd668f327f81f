"""Work that may not take for ever: it is broken off where it is in Python, and with its process where it is not."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prunectl.errors import Error

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between attempts to break work off, which may catch the first, and how many there are.
PAUSE, ATTEMPTS = 5.0, 6


class CellTimeoutError(Error):
    """Work that took longer than it may."""


class _Late(BaseException):
    """What is raised where the work is; no ``except Exception`` there holds it up."""


def run_within(seconds: float, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What a function gives, if it does so in time.

    A step of Python's has to end before it can be broken off. A dask worker's process that is stuck in one, in C or in
    a system call, is ended, and its nanny starts another; in any other process it is waited for.

    Raises:
        CellTimeoutError: it took longer.
    """
    thread, ended, turn = threading.get_ident(), threading.Event(), threading.Lock()
    may_end = _has_nanny()

    def watch() -> None:
        if ended.wait(seconds):
            return
        for _ in range(ATTEMPTS):
            with turn:
                if ended.is_set():
                    return
                _raise_in(thread, _Late)
            if ended.wait(PAUSE):
                return
        if may_end:
            os._exit(1)

    # No context manager of `contextlib`: what arrives in its own code would never reach the lines below.
    try:
        try:
            threading.Thread(target=watch, daemon=True, name="prunectl-deadline").start()
            return function(*arguments, **options)
        finally:
            with turn:
                ended.set()
                _raise_in(thread, None)  # takes back what has not arrived yet
    except _Late:
        ended.set()  # it may have arrived on the way there
        raise CellTimeoutError(f"it took longer than the {seconds:g} s that `timeout` gives a cell") from None


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Have an exception raised at the next step of another thread, the one means that CPython has for it."""
    what = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def _has_nanny() -> bool:
    """Whether this process is a dask worker's alone, whose nanny starts another if it ends."""
    from distributed import get_worker

    try:
        return bool(get_worker().nanny)
    except ValueError:
        return False
