"""Reading files that anybody may have written, and writing so that nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: A zip's table of contents takes about 60 bytes an entry, and Python some 500 to hold it.
LARGEST_DIRECTORY = 2**20
#: JSON in a checkpoint: a zip's repeats its pickles as text, some 20 KiB. Read, it takes up to twenty times its size.
LARGEST_JSON = 16 * 2**20
#: No entry of a checkpoint is so large.
LARGEST_ENTRY = 2**30


def read_bounded(path: Path, limit: int) -> bytes:
    """A whole file, if it is a regular one of at most ``limit`` bytes: pipes and devices never end.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    check_regular(path)
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        raise OSError(errno.EFBIG, f"over {size}, no such file is so large", str(path))
    return content


def check_regular(path: Path) -> None:
    """Raise OSError where reading might wait for ever: at a pipe, a device, a socket; and at a folder."""
    if not path.is_file():
        path.stat()  # what is not there says so itself
        raise OSError(errno.EINVAL, "no regular file (a pipe, a device or a folder is not read)", str(path))


def digest_of(*paths: Path) -> str:
    """SHA-256 over the files one after another, read in pieces."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while piece := stream.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def open_zip(stream: IO[bytes]) -> zipfile.ZipFile:
    """A zip whose table of contents is short: Python would hold one of millions of entries in gigabytes.

    Raises:
        zipfile.BadZipFile: no zip, or too many entries.
    """
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # the only way to learn it before it is read
    if end is not None and end[zipfile._ECD_SIZE] > LARGEST_DIRECTORY:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile("its table of contents is over 1 MiB")
    return zipfile.ZipFile(stream)


def read_entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry of at most ``limit`` bytes, whatever the zip says of its size.

    Raises:
        zipfile.BadZipFile: it is larger, or damaged.
        KeyError: it is not there.
    """
    if archive.getinfo(name).file_size <= limit:
        with archive.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) <= limit:
            return content
    raise zipfile.BadZipFile(f"its '{name[:80]}' would unpack to over {limit // 2**20} MiB")


def is_whole_zip(path: Path) -> bool:
    """Whether a file is a zip whose entries are all as they were written, by the checksums in it."""
    try:
        check_regular(path)
        with path.open("rb") as stream, open_zip(stream) as archive:
            for name in archive.namelist():
                read_entry(archive, name, LARGEST_ENTRY)
    except Exception:  # damage may fail in any way
        return False
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name if the block succeeds and vanishes if it does not.

    Raises:
        OSError: it cannot be written; with the name of ``path`` where the system gives none (a disk that fills up).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
