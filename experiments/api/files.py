"""Where results go: refused before hours are spent on what could not be written."""

from __future__ import annotations

import os
from pathlib import Path


def check_output(path: Path, force: bool) -> None:
    """Refuse an output that cannot be written or would be overwritten.

    Raises:
        OSError: there is no such folder, or the file is there already.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "there is no such folder to write to", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(21, "it is a folder, a file is needed", str(path))
    if path.exists() and not force:
        raise FileExistsError(17, "it is there already: choose another name, or --force to replace it", str(path))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(13, "the folder cannot be written to", str(path.parent))


def check_new_folder(path: Path, what: str) -> None:
    """Refuse a folder for ``what`` that is there already, or that cannot be made.

    Raises:
        OSError: so it is.
    """
    if path.exists():
        raise FileExistsError(17, f"it is there already: {what} goes to a new folder", str(path))
    check_output(path, force=False)
