"""Files that readers see whole or not at all, and that lie where they seem to lie."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


def replace_file(path: Path, data: bytes) -> None:
    """Give *path* the content *data* so that every reader sees the old or the new file, whole.

    Raises:
        OSError: nothing changed, and the temporary file is removed.
    """
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path, data: bytes) -> None:
    """Give *path* the content *data* unless it is there; of several who do so at once, one does.

    Raises:
        FileExistsError: it is there, or being made.
        OSError: nothing changed, and the temporary file is removed.
    """
    temporary = temporary_path(path)
    # Whoever makes the temporary file holds a lock until it is gone or has become *path*. A hard
    # link would do the same, but not every file system has them.
    with temporary.open("xb") as stream:
        try:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))  # noqa: TRY301  # gives up the lock
            stream.write(data)
            stream.flush()
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def temporary_path(path: Path) -> Path:
    """Return where the content of *path* is written before it is complete."""
    return path.with_name(f".{path.name}.tmp")


def open_inside(root: Path, file: str, *, limit: int) -> BinaryIO:
    """Open a plain file below *root* without following a link on the way.

    Raises:
        OSError: missing, not a plain file, larger than *limit* bytes, or behind a link.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not block
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parts, name = file.split("/")
        for part in parts:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        descriptor = os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, expected at most {limit}")
    raise OSError(errno.EINVAL, "it is not a plain file")
