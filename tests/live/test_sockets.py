"""Who listens and who is connected is told without connecting to anybody."""

import contextlib
import socket

import pytest

from tensorview import sockets
from tensorview.sockets import connected_to, viewer_listens
from tests.doubles import free_port


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server):
    return server.getsockname()[1]


def test_a_listener_is_seen_and_not_disturbed(server):
    """It is seen as often as is asked, and takes connections after that."""
    seen = [viewer_listens(port_of(server)) for _ in range(3)]
    with socket.create_connection(server.getsockname()):
        pass

    assert seen == [True] * 3


def test_a_port_from_which_a_connection_goes_out_is_no_listener(server):
    """A port may be taken without anybody listening there."""
    with socket.create_connection(server.getsockname()) as connection:
        assert not viewer_listens(connection.getsockname()[1])


def test_where_nobody_listens_no_table_is_read(monkeypatch):
    """A training that waits for a viewer asks at its captures: reading would take 10 ms each."""
    monkeypatch.setattr(sockets, "tcp_sockets", lambda: pytest.fail("the table was read"))

    assert not viewer_listens(free_port())


def test_f10_without_a_descriptor_nobody_is_seen(server, monkeypatch):
    """Who asks is a capture, whose files are to be written all the same."""

    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sockets.socket, "socket", refuse)
    monkeypatch.setattr(sockets.Path, "read_text", refuse)

    assert not viewer_listens(port_of(server))


def test_a_connection_counts_until_its_other_end_goes(server, monkeypatch):
    """Asked at every frame, so that no table is read here either."""
    monkeypatch.setattr(sockets, "tcp_sockets", lambda: pytest.fail("the table was read"))
    before = connected_to(port_of(server))
    with socket.create_connection(server.getsockname()) as connection:
        other, _ = server.accept()
        during = connected_to(port_of(server))
        with contextlib.closing(other):
            other.shutdown(socket.SHUT_RDWR)
        connection.settimeout(10)
        connection.recv(1)  # returns once the end has come
        after = connected_to(port_of(server))

    assert (before, during, after) == (False, True, False)
