"""Files that readers see whole or not at all, and that lie where they seem to lie."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

# A FIFO must not block.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def replace_file(path: Path, data: bytes) -> None:
    """Give *path* the content *data* so that every reader sees the old or the new file, whole.

    Raises:
        OSError: nothing changed, and the temporary file is removed.
    """
    temporary = temporary_path(path)
    try:
        with open_temporary(path) as stream:
            stream.write(data)
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


def open_temporary(path: Path) -> BinaryIO:
    """Make the file at `temporary_path` anew, and open it for writing.

    What lay there goes, so that nothing is written through a link of somebody else.

    Raises:
        OSError: it cannot be made.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    return temporary.open("xb")


def open_to_append(path: Path) -> int:
    """Open a plain file for reading and appending, made with mode 0600 where there is none.

    Returns:
        Its descriptor.

    Raises:
        OSError: it cannot be opened, is a link, or is not a plain file; nothing waits.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file")
    return descriptor


def remove_inside(root: Path, file: str) -> None:
    """Remove a file below *root*, if it is there, without following a link on the way.

    Raises:
        OSError: it cannot be removed, or is behind a link.
    """
    with contextlib.suppress(FileNotFoundError), _folder_inside(root, file) as (folder, name):
        os.unlink(name, dir_fd=folder)  # pathlib has no folders held open


def refuse_links(folder: Path, *, below: Path) -> None:
    """Return if no link is on the way from *below* to *folder*.

    Raises:
        OSError: there is one, so what is written there would lie elsewhere.
    """
    while folder != below:
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link", str(folder))
        folder = folder.parent


def open_inside(root: Path, file: str, *, limit: int) -> BinaryIO:
    """Open a plain file below *root* without following a link on the way.

    Raises:
        OSError: missing, not a plain file, larger than *limit* bytes, or behind a link.
    """
    with _folder_inside(root, file) as (folder, name):
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, expected at most {limit}")
    raise OSError(errno.EINVAL, "it is not a plain file")


@contextlib.contextmanager
def _folder_inside(root: Path, file: str) -> Iterator[tuple[int, str]]:
    """Hold the folder of *file* open, links refused; yield it with the file's name in it."""
    *parts, name = file.split("/")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)
