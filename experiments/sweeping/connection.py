"""Connections to stores that anybody may have written: nothing beside the file is touched, and little memory taken."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from prunectl.errors import DEBUG, Error
from prunectl.registry import one_line

FILE = "sweep.sqlite"
LOCK = "sweep.lock"
AWAY = "move it away or choose another folder"

#: Bytes of one value: what describes the components of a cell takes hundreds, and pages of a file may be read as any
#: number of values.
LARGEST_VALUE = 2**20
#: Bytes that the rows of one query may take, as they are counted here: some 500,000 cells.
LARGEST_RESULT = 2**29
#: Characters of one statement, those of the schema among them.
LONGEST_STATEMENT = 20_000
#: Steps of SQLite's machine that one query may take, a minute of them; and the first, which reads a schema of a few
#: tables.
MOST_STEPS, MOST_FIRST_STEPS, _AT_A_TIME = 500_000_000, 50_000, 10_000
#: How often a lock is tried, and seconds between.
_ATTEMPTS, _PAUSE = 10, 0.05
#: A file of one page has nothing that a journal could bring back.
_PAGE = 4096


class StoreError(Error):
    """A sweep folder that cannot be read or written; the message says which and what to do."""


class Patience:
    """How long one query may still go on: pages that lead to each other in a circle are read for ever."""

    def __init__(self) -> None:
        self.left = 0

    def renew(self, steps: int) -> None:
        """For the next query."""
        self.left = steps

    def lost(self) -> bool:
        """Asked every so many steps: whether to break it off."""
        self.left -= _AT_A_TIME
        return self.left < 0


def check_there(folder: Path) -> None:
    """Raise StoreError where there is no store."""
    if not (folder / FILE).is_file():
        raise StoreError(f"{folder}: there is no {FILE} here; `prunectl sweep CONFIG --out {folder}` makes one")


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as it stands, also while a sweep is writing.

    Where no sweep is, SQLite would take what lies beside the file for its own: roll a journal back, make an index of
    the log. So the file is opened as one that does not change; where there is a log, which a killed sweep leaves, a
    copy of both is.

    Raises:
        StoreError: what should be the log is no regular file, or a sweep that began meanwhile changed what was read.
        sqlite3.Error: it cannot be opened.
    """
    log = path.with_name(f"{path.name}-wal")
    uri, how = path.resolve().as_uri(), "mode=ro&immutable=1"
    with ExitStack() as stack:
        if _is_written(path.parent):
            how = "mode=ro"
        elif log.exists() and log.stat().st_size:
            _check_regular(log)
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="prunectl-")))
            for file in (path, log):
                shutil.copyfile(file, folder / file.name)
            uri, how = (folder / path.name).as_uri(), "mode=rw"
        with explained(path):
            connection = _bounded(sqlite3.connect(f"{uri}?{how}", uri=True, timeout=30, isolation_level=None))
        with closing(connection), _unchanged(path) if "immutable" in how else nullcontext():
            yield connection


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """A file that is opened as one that does not change must not: what was read of it would be of two states."""
    before = path.stat()
    try:
        yield
    finally:
        now = path.stat()
        if (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size):
            raise StoreError(f"{path}: a sweep has begun to write here while it was read: read it again")


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """The file to be written, for the one who holds its folder's lock.

    Raises:
        StoreError: something lies beside it that no sweep leaves there, and that SQLite would act on.
        sqlite3.Error: it cannot be opened.
    """
    target = path.resolve()
    beside = {ending: target.with_name(f"{target.name}-{ending}") for ending in ("journal", "wal", "shm")}
    for file in beside.values():
        if file.is_symlink():
            raise StoreError(f"{file}: a link, which no sweep leaves: {AWAY}")
    # A store keeps a log (WAL), and a journal only for the moment in which it is made. Rolled back, one may delete any
    # file of the user's: the "super-journal" that it names.
    if beside["journal"].exists():
        if target.exists() and target.stat().st_size > _PAGE:
            raise StoreError(f"{beside['journal']}: a journal, which no sweep leaves: {AWAY}")
        beside["journal"].unlink()
    with explained(path):
        connection = _bounded(sqlite3.connect(path, timeout=30, isolation_level=None))
    with closing(connection):
        yield connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that says which file and what to do."""
    try:
        yield
    except StoreError as error:
        raise error if str(path) in str(error) else StoreError(f"{path}: {error}: {AWAY}") from error
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            raise StoreError(f"{path}: reading it takes for ever, is it damaged? Then {AWAY}") from error
        raise StoreError(f"{path}: {error}: check the disk and the folder's permissions") from error
    except (sqlite3.DatabaseError, UnicodeError) as error:
        raise StoreError(f"{path}: {one_line(error)}: {AWAY}") from error


@contextmanager
def blaming(folder: Path) -> Iterator[None]:
    """Say in one line what a store makes fail whose tables are whole and whose values somebody changed."""
    try:
        yield
    except (Error, OSError):
        raise
    except Exception as error:  # it may be anything, a fault of ours among it
        if os.environ.get(DEBUG):
            raise
        raise StoreError(
            f"{folder}: what it holds does not fit together ({one_line(error)}); was it changed? If not, please "
            f"report it with what {DEBUG}=1 shows"
        ) from error


def patient(connection: sqlite3.Connection) -> Patience:
    """Break its queries off that take for ever; to be renewed before each."""
    patience = Patience()
    connection.set_progress_handler(patience.lost, _AT_A_TIME)
    return patience


def fetched(connection: sqlite3.Connection, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query.

    Raises:
        StoreError: they take too much memory.
    """
    return list(counted(connection.execute(query, parameters)))


def counted(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same rows, as long as they are not too many."""
    taken = 0
    for row in rows:
        taken += 64 + 28 * len(row)
        for value in row:
            if isinstance(value, str | bytes):
                taken += len(value)
        if taken > LARGEST_RESULT:
            raise StoreError(f"its rows take over {LARGEST_RESULT // 2**20} MiB, which no sweep's do")
        yield row


@contextmanager
def locked(folder: Path, pid: int) -> Iterator[None]:
    """Hold the folder for one writer. The kernel lets go of the lock however the process ends."""
    path = folder / LOCK
    if path.is_symlink():
        raise StoreError(f"{path}: a link, which no sweep leaves: {AWAY}")
    if path.exists():
        _check_regular(path)
    with path.open("a+") as stream:
        if not _locks(stream):
            stream.seek(0)
            holder = stream.read(20).strip()
            raise StoreError(f"{folder}: another sweep is writing here (process {holder}): wait or stop it")
        stream.truncate(0)
        stream.write(str(pid))
        stream.flush()
        yield


def _locks(stream: IO[str]) -> bool:
    """Whether the lock could be had; a reader that asks whether somebody writes has it for a moment (`_is_written`)."""
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_PAUSE)
    return False


def _check_regular(path: Path) -> None:
    from prunectl.agents.files import check_regular  # its package is heavy, and whether there is a store is asked first

    check_regular(path)


def _is_written(folder: Path) -> bool:
    """Whether a sweep holds the folder's lock."""
    lock = folder / LOCK
    if lock.is_symlink() or not lock.is_file():
        return False
    try:
        with lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it may not be opened, or locks are not known there
        return False
    return False


def _bounded(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LONGEST_STATEMENT)
    return connection
