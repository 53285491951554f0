"""Nothing of ours can be connected to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
import torch

import tensorview
from tensorview import supervisor
from tensorview.sockets import LISTEN, links, tcp_sockets
from tests.doubles import Listener, free_port, wait_until

ACCEPTS = 1 << 16  # __SO_ACCEPTCON in include/linux/net.h


def listening(pids):
    """Return the sockets, TCP or of a path, on which these processes accept connections."""
    inodes = {s.inode for s in tcp_sockets() if s.state == LISTEN}
    for row in (
        Path("/proc/net/unix").read_text(encoding="ascii", errors="replace").splitlines()[1:]
    ):
        _, _, _, flags, _, _, inode, *_ = row.split()
        if int(flags, 16) & ACCEPTS:
            inodes.add(f"socket:[{inode}]")
    return {pid: inodes & links(Path(f"/proc/{pid}/fd")) for pid in pids}


@pytest.mark.paraview
def test_p9_a_watched_training_and_its_workers_listen_nowhere(tmp_path):
    """Neither training nor file worker nor live worker, waiting for a viewer or held by one."""
    port = free_port()
    model = torch.nn.Linear(3, 2)
    before = listening([os.getpid()])[os.getpid()]
    with tensorview.watch(
        model, every=1, run_dir=tmp_path / "run", live=f"localhost:{port}", probe=torch.rand(4, 3)
    ) as watcher:
        watcher.step()
        pids = [os.getpid(), *(handle.pid for handle in supervisor._open_handles)]
        assert len(pids) == 3
        seen = [listening(pids)]
        with Listener(port=port) as holder:
            watcher.step()
            wait_until(lambda: holder.accepted, seconds=60, what="the live worker")
            pids = [os.getpid(), *(handle.pid for handle in supervisor._open_handles)]
            seen.append(listening(pids))
            # The holder itself, which is in this process, shows that a listener would be seen.
            assert len(seen[1].pop(os.getpid()) - before) == 1
        seen[0][os.getpid()] -= before

    found = [f"{pid}: {sorted(one)}" for sockets in seen for pid, one in sockets.items() if one]
    assert found == []


def test_p9_a_socket_that_listens_would_be_seen(tmp_path):
    """Whether it has a port or a path."""
    here = os.getpid()
    before = listening([here])[here]
    with socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "socket"))
        other.listen()

        assert len(listening([here])[here] - before) == 2


def test_p9_others_may_not_read_a_run(tmp_path):
    """A run directory is its owner's alone, and so is what passes through shared memory."""
    model = torch.nn.Linear(3, 2)
    old = os.umask(0)
    try:
        with tensorview.watch(
            model, every=1, run_dir=tmp_path / "run", live=False, probe=torch.rand(4, 3)
        ) as watcher:
            watcher.step()
            (handle,) = supervisor._open_handles
            slots = os.fstat(handle._sender.worker_fds[2])
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert (stat.S_IMODE(slots.st_mode), slots.st_nlink) == (0o600, 0)
