"""Carrying out the cells of a sweep on dask workers: few in flight, shared work done once, suspects on their own."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from prunectl import envs
from prunectl.agents.controller import Controller
from prunectl.errors import Error
from prunectl.experiments.sweeping.cell import (
    Calibrated,
    Cell,
    Damaged,
    Failure,
    Fitted,
    Network,
    Piece,
    Reference,
    Scored,
    ToDo,
    Work,
    needs,
)
from prunectl.experiments.sweeping.compute import (
    run_calibration,
    run_damage,
    run_dense,
    run_lyapunov,
    run_pruned,
    run_random,
    run_scores,
)
from prunectl.experiments.sweeping.deadline import run_within
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import check_workers
from prunectl.registry import one_line

if TYPE_CHECKING:
    from distributed import Client, Future

#: Cells a worker thread has in hand: the one that it computes, and one that waits there, so that it never idles. So
#: memory does not grow with the sweep, and a worker that dies casts suspicion on no more than these.
IN_FLIGHT = 2
#: How many cells ahead shared work is begun, a worker thread: while one worker calibrates a controller, the others find
#: cells of the next.
LOOKAHEAD = 64
#: Seconds after which the workers are counted anew; clusters grow and shrink.
RECOUNT = 2.0


class ClusterError(Error):
    """The workers are gone; what was computed is in the store."""


def run(work: Work, to_do: ToDo, store: Store, client: Client, told: Callable[[Cell], None]) -> list[Failure]:
    """Compute what is to do, and keep each cell as soon as it is there.

    Only this process writes to the store. Cells in whose company workers died are computed again at the end, one at a
    time, so that only those which kill a worker on their own are recorded as failed.

    Args:
        work: the sweep.
        to_do: what of it the store does not hold yet.
        store: where results go.
        client: the workers.
        told: called with every cell that has come to an end.

    Returns:
        The cells that failed; the store keeps their errors.

    Raises:
        ClusterError: the scheduler is gone.
        ConfigError: a worker would give other numbers, or cannot import a plug-in.
        StoreError: the store cannot be written any more.
        TaskError: a random reference cannot be measured; raised when all else is done.
    """
    from distributed import KilledWorker

    failures: list[Failure] = []
    suspects: list[Cell] = []

    def keep(cell: Cell, result: Any) -> None:
        if not isinstance(result, BaseException):
            store.record(cell, result)
        else:
            failures.append(Failure(cell, _why(result)))
            store.record_failure(cell, failures[-1].error)
        told(cell)

    def keep_or_suspect(cell: Cell, result: Any) -> None:
        if isinstance(result, KilledWorker):
            suspects.append(cell)
        else:
            keep(cell, result)

    if work.plugins:
        from prunectl.experiments.sweeping.imports import import_on_workers

        import_on_workers(client, work.plugins)
    broken: list[str] = []
    references = _references(work, to_do, store, client, broken)
    _Dispatch(work, client, to_do.cells, keep_or_suspect).run(references)
    if suspects:
        _Dispatch(work, client, suspects, keep, alone=True).run({})
    if broken:
        raise envs.TaskError(broken[0])
    return failures


class _Dispatch:
    """Cells on their way: looked ahead (their shared work begun), ready, in flight, ended."""

    def __init__(
        self,
        work: Work,
        client: Client,
        cells: Sequence[Cell],
        keep: Callable[[Cell, Any], None],
        alone: bool = False,
    ) -> None:
        self._work, self._client, self._keep = work, client, keep
        self._ahead = iter(cells)
        self._shared = _Shared(work, cells, self._submit)
        self._waiting: defaultdict[Piece, list[Cell]] = defaultdict(list)
        self._ready: deque[Cell] = deque()
        self._in_flight: dict[str, Cell] = {}
        self._looked_at = 0
        self._handlers: dict[str, Callable[[Any], None]] = {}
        self._stay: set[str] = set()  # keys of shared work, whose results stay with the workers
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._slots, self._counted = 1, -RECOUNT
        self._known: set[str] = set()
        self._limits = (1, 1) if alone else None

    def run(self, others: Mapping[Future, Callable[[Any], None]]) -> None:
        """Carry everything out, with some other work beside the cells."""
        for future, handler in others.items():
            self._watch(future, handler)
        self._fill()
        while self._handlers:
            ended = self._next()
            for key, result in _results(self._client, ended, self._stay).items():
                self._handlers.pop(key)(result)
            self._fill()

    def _fill(self) -> None:
        slots = self._count()  # also where limits are given: who has joined since is checked
        in_flight, looked_at = self._limits or (IN_FLIGHT * slots, LOOKAHEAD * slots)
        while self._looked_at < looked_at and (cell := next(self._ahead, None)) is not None:
            self._look_at(cell)
        while self._ready and len(self._in_flight) < in_flight:
            self._start(self._ready.popleft())

    def _look_at(self, cell: Cell) -> None:
        """Begin the shared work that a cell needs."""
        self._looked_at += 1
        for piece in needs(cell).pieces:
            if piece not in self._shared.futures:
                future = self._shared.begin(piece)
                self._stay.add(future.key)
                self._watch(future, partial(self._shared_ended, piece))
        self._wait(cell)

    def _wait(self, cell: Cell) -> None:
        """A cell waits for one piece after the other; it is ready when all have ended, and ends itself with an error
        of one."""
        for piece in needs(cell).pieces:
            if piece not in self._shared.ended:
                self._waiting[piece].append(cell)
                return
            if (error := self._shared.ended[piece]) is not None:
                self._end(cell, error)
                return
        self._ready.append(cell)

    def _shared_ended(self, piece: Piece, error: BaseException | None) -> None:
        self._shared.ended[piece] = error
        for cell in self._waiting.pop(piece, ()):
            self._wait(cell)

    def _start(self, cell: Cell) -> None:
        need, there = needs(cell), self._shared.futures
        controller = there[need.network]
        lyapunov = None if need.lyapunov is None else there[need.lyapunov]
        if need.calibration is None:
            future = self._submit(cell.subject.digest, run_dense, controller, cell, lyapunov)
        else:
            scores = None if need.scores is None else there[need.scores]
            damage = None if need.damage is None else there[need.damage]
            data = there[need.calibration], scores, cell, damage
            future = self._submit(cell.subject.digest, run_pruned, controller, *data, lyapunov)
        self._in_flight[future.key] = cell
        self._watch(future, lambda result: self._end(self._in_flight.pop(future.key), result))

    def _end(self, cell: Cell, result: Any) -> None:
        self._looked_at -= 1
        self._shared.release(cell)
        self._keep(cell, result)

    def _submit(self, digest: str, function: Callable[..., Any], *arguments: Any) -> Future:
        resources = self._work.resources.get(digest)
        return _submit(self._client, self._work.timeout, function, *arguments, resources=resources)

    def _watch(self, future: Future, handler: Callable[[Any], None]) -> None:
        self._handlers[future.key] = handler
        future.add_done_callback(self._ended.put)

    def _next(self) -> list[Future]:
        """All that has come to an end since the last time, waiting for the first."""
        ended = [self._ended.get()]
        while True:
            try:
                ended.append(self._ended.get_nowait())
            except Empty:
                return ended

    def _count(self) -> int:
        """Worker threads, counted now and then; workers that have joined since are checked."""
        if time.monotonic() - self._counted >= RECOUNT:
            try:
                threads = self._client.nthreads()
                joined = {name: threads[name] for name in threads.keys() - self._known}
                check_workers(self._client, joined, self._work.plugins)
            except OSError as error:
                raise _gone() from error
            self._known |= threads.keys()
            self._slots, self._counted = max(sum(threads.values()), 1), time.monotonic()
        return self._slots


class _Shared:
    """Work that cells share, each piece a task of its own, held by the workers until its last cell has ended.

    Attributes:
        futures: the pieces begun.
        ended: those of them that have come to an end, with their errors.
    """

    def __init__(self, work: Work, cells: Iterable[Cell], submit: Callable[..., Future]) -> None:
        self.futures: dict[Piece, Future] = {}
        self.ended: dict[Piece, BaseException | None] = {}
        self._work, self._submit = work, submit
        self._cells = Counter(piece for cell in cells for piece in needs(cell).pieces)

    def begin(self, piece: Piece) -> Future:
        """Submit a piece; those that it needs are there."""
        match piece:
            case Network(digest):
                future = self._submit(digest, _same, self._work.controllers[digest])
            case Calibrated(digest, task, seed):
                future = self._submit(digest, run_calibration, self._of(digest), task, seed)
            case Fitted(digest, task, seed):
                future = self._submit(digest, run_lyapunov, self._of(digest), task, seed)
            case Scored(data, importance):
                of = self._of(data.digest), self.futures[data]
                future = self._submit(data.digest, run_scores, *of, importance, data.seed)
            case Damaged(scores):
                data = scores.data
                of = self._of(data.digest), self.futures[data]
                future = self._submit(data.digest, run_damage, *of, self.futures[scores], data.seed)
        self.futures[piece] = future
        return future

    def _of(self, digest: str) -> Future:
        return self.futures[Network(digest)]

    def release(self, cell: Cell) -> None:
        """Let the workers forget what no other cell needs."""
        for piece in needs(cell).pieces:
            self._cells[piece] -= 1
            if not self._cells[piece]:
                del self._cells[piece], self.futures[piece]
                self.ended.pop(piece, None)


def _references(
    work: Work, to_do: ToDo, store: Store, client: Client, broken: list[str]
) -> dict[Future, Callable[[Any], None]]:
    def kept(reference: Reference) -> Callable[[Any], None]:
        def handler(result: Any) -> None:
            if isinstance(result, BaseException):
                broken.append(f"random actions on {reference.task} cannot be measured: {_why(result)}")
            else:
                store.record_random(result, reference.digest)

        return handler

    return {_submit(client, work.timeout, run_random, one, work.whose(one)): kept(one) for one in to_do.references}


def _submit(
    client: Client, timeout: float | None, function: Callable[..., Any], *arguments: Any, **options: Any
) -> Future:
    if timeout is None:
        return client.submit(function, *arguments, pure=False, **options)
    return client.submit(run_within, timeout, function, *arguments, pure=False, **options)


def _results(client: Client, ended: Sequence[Future], stay: Container[str]) -> dict[str, Any]:
    """What these futures came to, by key: a result or an error; None for a result that is to stay with the workers."""
    results: dict[str, Any] = {}
    wanted: list[Future] = []
    for future in ended:
        if future.status == "error":
            results[future.key] = future.exception()
        elif future.cancelled():
            raise _gone()
        elif future.key in stay:
            results[future.key] = None
        else:
            wanted.append(future)
    try:
        gathered = client.gather(wanted)
    except Exception:  # a worker died with a result, and what computes it again fails: ask for each on its own
        gathered = [_result(future) for future in wanted]
        if any(future.cancelled() for future in wanted):
            raise _gone() from None
    return results | dict(zip((future.key for future in wanted), gathered, strict=True))


def _result(future: Future) -> Any:
    try:
        return future.result()
    except Exception as error:
        return error


def _gone() -> ClusterError:
    return ClusterError("the scheduler is gone")


def _same(controller: Controller) -> Controller:
    """A controller as a task, so that it travels once, and again only if its worker dies."""
    return controller


def _why(error: BaseException) -> str:
    """Why a task failed."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return "it killed every worker process that computed it (out of memory, a crash, or stuck beyond its timeout?)"
    return one_line(error)
