"""This machine's TCP sockets, as the kernel tells of them: nobody is connected to.

To read the kernel's table takes ten milliseconds, even where it is all but empty. What is asked
again and again does without.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""

# States by their number in include/net/tcp_states.h.
ESTABLISHED = 1
LISTEN = 10


class TcpSocket(NamedTuple):
    """One row of the table; *inode* is what ``/proc/<pid>/fd`` links to."""

    local_port: int
    remote_port: int
    state: int
    inode: str


def tcp_sockets() -> Iterator[TcpSocket]:
    """Yield every TCP socket of this network namespace; nothing where there is no ``/proc``."""
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, remote, state, _, _, _, _, _, inode, *_ = row.split()
            yield TcpSocket(_port(local), _port(remote), int(state, 16), f"socket:[{inode}]")


def viewer_listens(port: int) -> bool:
    """Say whether something on this machine listens on *port*, without connecting to it.

    Where no descriptor is left to look with, nobody is seen.
    """
    # The port is taken, though perhaps by a connection going out; or no descriptor is left.
    with contextlib.suppress(OSError), socket.socket() as probe:
        # A listener may still take the port meanwhile, for ParaView's asks for the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", port))
        return False
    return any(s.state == LISTEN and s.local_port == port for s in tcp_sockets())


def connected_to(port: int) -> bool:
    """Say whether this process holds an established connection to *port* of any machine."""
    return any(_remote_port(int(fd.name)) == port for fd in Path("/proc/self/fd").iterdir())


def listener(port: int) -> str:
    """Name the process that listens on *port*, as far as we may see."""
    inodes = {s.inode for s in tcp_sockets() if s.state == LISTEN and s.local_port == port}
    for process in Path("/proc").glob("[0-9]*"):
        if inodes & links(process / "fd"):
            return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return "a process of another user"


def links(folder: Path) -> set[str]:
    """Return what the links in *folder* point to, without those that vanish meanwhile."""
    found = set()
    with contextlib.suppress(OSError):  # another user's
        for link in list(folder.iterdir()):
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(str(link.readlink()))
    return found


def _remote_port(fd: int) -> int:
    """Return the port at the other end of an established TCP connection; 0 for all else."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:  # no socket, or closed meanwhile
        return 0
    try:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return int(connection.getpeername()[1]) if state == ESTABLISHED else 0
    except OSError:  # no TCP
        return 0
    finally:
        connection.detach()  # it is not ours to close


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
