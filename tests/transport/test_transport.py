"""Snapshots cross to another process whole, or not at all."""

import contextlib
import gc
import json
import mmap
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorview import encoding, slots
from tensorview.encoding import EncodedSnapshot, decode
from tensorview.errors import SnapshotError, TransportError
from tensorview.snapshot import to_table
from tensorview.transport import Receiver, Sender
from tests.doubles import open_files
from tests.snapshots import make_layer, make_snapshot


def encoded_bytes(snapshot):
    encoded = EncodedSnapshot(snapshot)
    buffer = bytearray(encoded.nbytes)
    encoded.write(memoryview(buffer))
    return buffer


def same(left, right):
    (left_table, left_arrays), (right_table, right_arrays) = to_table(left), to_table(right)
    return json.dumps(left_table) == json.dumps(right_table) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left_arrays, right_arrays, strict=True)
    )


@pytest.fixture
def snapshot():
    return make_snapshot(np.random.default_rng(0))


@pytest.fixture
def pair():
    senders = []

    def make(**bounds):
        sender = Sender(**bounds)
        senders.append(sender)
        token, ack, slots = sender.worker_fds
        return sender, Receiver(token_fd=token, ack_fd=ack, slot_fd=slots)

    yield make
    for sender in senders:
        sender.close()


def test_a_snapshot_arrives_bit_for_bit(snapshot, pair):
    """What is received equals what was sent: every array, every name, NaN and all."""
    sender, receiver = pair(slots=2, max_bytes=2**30)

    assert sender.send(EncodedSnapshot(snapshot))
    _, received = receiver.receive(1.0)

    assert same(snapshot, received)


def test_a_received_snapshot_owns_its_numbers(snapshot, pair):
    """A slot may be overwritten as soon as it was read."""
    sender, receiver = pair(slots=1, max_bytes=2**30)
    sender.send(EncodedSnapshot(snapshot))
    slot, received = receiver.receive(1.0)
    receiver.say(done=slot)
    list(sender.messages())

    sender.send(EncodedSnapshot(make_snapshot(np.random.default_rng(1))))

    assert same(snapshot, received)


def test_a_snapshot_that_was_handed_over_is_freed_at_once():
    """Neither side waits for the collector of circles, which may come a hundred captures late."""
    gc.collect()
    gc.disable()
    try:
        sent = make_snapshot(np.random.default_rng(0))
        received = decode(encoded_bytes(sent))
        arrays = [
            weakref.ref(array) for snapshot in (sent, received) for array in to_table(snapshot)[1]
        ]
        del sent, received

        assert len(arrays) > 10
        assert not any(array() is not None for array in arrays)
    finally:
        gc.enable()


def test_an_unread_snapshot_can_be_taken_back(snapshot, pair):
    """The writer gets an unread slot back without asking anyone; the reader then finds nothing."""
    sender, receiver = pair(slots=2, max_bytes=2**30)
    sender.send(EncodedSnapshot(snapshot))

    assert sender.take_back() == [1]
    assert receiver.receive(0.0) is None


def test_a_read_snapshot_cannot_be_taken_back(snapshot, pair):
    """A slot that a reader has is not written to before the reader gives it back."""
    sender, receiver = pair(slots=1, max_bytes=2**30)
    sender.send(EncodedSnapshot(snapshot))
    slot, _ = receiver.receive(1.0)

    assert sender.take_back() == []
    assert not sender.send(EncodedSnapshot(snapshot))
    receiver.say(done=slot)
    assert list(sender.messages()) == [{"done": slot}]
    assert sender.send(EncodedSnapshot(snapshot))


def test_p5_the_queue_is_bounded_in_bytes(snapshot, pair):
    """However many slots there are, their memory together stays within the bound."""
    encoded = EncodedSnapshot(snapshot)
    slot = -(-encoded.nbytes * 5 // 4 // mmap.PAGESIZE) * mmap.PAGESIZE
    sender, _ = pair(slots=64, max_bytes=3 * slot)

    sent = 0
    while sender.send(encoded):
        sent += 1

    assert sent == 3


def test_everything_unacknowledged_is_offered_again(pair):
    """After a reader's death the next one gets, in order, what the first had not answered."""
    sender, receiver = pair(slots=4, max_bytes=2**30)
    for seed in range(3):
        sender.send(
            EncodedSnapshot(make_snapshot(np.random.default_rng(seed), step=50 * (seed + 4)))
        )
    receiver.receive(1.0)

    assert sender.resend() == 3
    assert [receiver.receive(1.0)[1].step for _ in range(3)] == [200, 250, 300]


def test_the_reader_sees_the_writers_end(pair):
    """When nothing more will come, waiting ends at once."""
    sender, receiver = pair(slots=2, max_bytes=2**30)
    sender.end()

    with pytest.raises(EOFError):
        receiver.receive(5.0)


def test_f10_no_memory_is_a_sentence(snapshot, pair, monkeypatch):
    """A full shared memory is an error with advice, never a signal."""

    def full(*_):
        raise OSError(28, "No space left on device")

    sender, _ = pair(slots=2, max_bytes=2**30)
    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(TransportError, match=r"No space left on device\. Free shared memory, or"):
        sender.send(EncodedSnapshot(snapshot))


def test_f10_too_many_open_files_is_a_sentence(snapshot, pair, monkeypatch):
    """A mapping takes a descriptor: where there is none left, that snapshot alone is lost."""

    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    sender, _ = pair(slots=2, max_bytes=2**30)
    with monkeypatch.context() as patched:
        patched.setattr(slots.mmap, "mmap", refuse)
        with pytest.raises(TransportError, match=r"^Cannot hand over .*: Too many open files\."):
            sender.send(EncodedSnapshot(snapshot))

    assert sender.in_flight == 0
    assert sender.send(EncodedSnapshot(snapshot))


def test_f10_a_long_queue_takes_few_descriptors(pair):
    """However many snapshots wait for a worker, and whichever are read, a training keeps its own.

    What was written through a mapping that is no more there arrives bit for bit.
    """
    sender, receiver = pair(slots=256, max_bytes=2**30)
    sent = [make_snapshot(np.random.default_rng(seed), step=50 * seed) for seed in range(1, 257)]
    before = open_files()
    for snapshot in sent:
        assert sender.send(EncodedSnapshot(snapshot))
    writing = open_files() - before
    received = [receiver.receive(1.0)[1] for _ in sent]

    assert 0 < writing <= 8
    assert open_files() - before <= 16
    assert all(map(same, sent, received))


def test_f10_memory_is_there_before_it_is_written(snapshot, pair):
    """A slot is allocated and not only measured off: writing to what is not there is a SIGBUS."""
    encoded = EncodedSnapshot(snapshot)
    sender, _ = pair(slots=1, max_bytes=2**30)
    before = os.fstat(sender.worker_fds[2]).st_blocks
    sender._file.reserve(0, encoded.nbytes * 100)

    assert (os.fstat(sender.worker_fds[2]).st_blocks - before) * 512 >= encoded.nbytes * 100 - 2**20


def test_f10_shared_memory_falls_back_to_the_temporary_directory(monkeypatch, tmp_path, snapshot):
    """Without /dev/shm the temporary directory takes the file, and leaves nothing in it."""
    real = slots.tempfile.mkstemp

    def no_shm(*, prefix, dir):  # noqa: A002
        if str(dir) == "/dev/shm":  # noqa: S108
            raise OSError(2, "No such file or directory")
        return real(prefix=prefix, dir=dir)

    monkeypatch.setattr(slots.tempfile, "mkstemp", no_shm)
    monkeypatch.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    sender = Sender(slots=2, max_bytes=2**30)

    assert sender.send(EncodedSnapshot(snapshot))
    assert list(tmp_path.iterdir()) == []
    sender.close()


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_refused(data):
    """Bytes that lie about sizes or types are an error or a snapshot, never anything else."""
    buffer = encoded_bytes(make_snapshot(np.random.default_rng(0)))
    header = encoding.HEADER.size + 2000
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, header))
        buffer[where] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(buffer)))

    with contextlib.suppress(SnapshotError):
        decode(memoryview(buffer)[: len(buffer) - cut])


def test_a_table_that_announces_too_much_allocates_nothing():
    """A shape of terabytes is refused by comparing sizes, not by trying."""
    buffer = encoded_bytes(make_snapshot(np.random.default_rng(0)))
    table_bytes = encoding.HEADER.unpack_from(buffer)[1]
    table = json.loads(buffer[encoding.HEADER.size : encoding.HEADER.size + table_bytes])
    table["arrays"][0][1] = [2**40]
    lie = json.dumps(table).encode()
    forged = bytearray(len(buffer) + 4096)
    encoding.HEADER.pack_into(forged, 0, encoding.MAGIC, len(lie), len(forged))
    forged[encoding.HEADER.size : encoding.HEADER.size + len(lie)] = lie

    with pytest.raises(SnapshotError, match="are more than the"):
        decode(memoryview(forged))


def test_nothing_in_a_table_is_executed():
    """Only plain numbers cross: an object dtype is refused."""
    buffer = encoded_bytes(make_snapshot(np.random.default_rng(0)))
    table_bytes = encoding.HEADER.unpack_from(buffer)[1]
    start = encoding.HEADER.size
    text = bytes(buffer[start : start + table_bytes])
    forged = text.replace(b'["<i4"', b'["|O" ', 1)
    buffer[start : start + table_bytes] = forged

    with pytest.raises(SnapshotError, match="is not a plain number"):
        decode(memoryview(buffer))


def test_importing_the_transport_loads_neither_torch_nor_vtk():
    """The same module serves both sides of the pipe."""
    script = (
        "import sys, tensorview.transport;"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'vtkmodules', 'paraview')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


def test_a_snapshot_that_has_grown_finds_room_in_an_empty_queue(pair):
    """Memory held by free slots that are too small is given back for a larger snapshot."""
    small = EncodedSnapshot(make_snapshot(np.random.default_rng(0)))
    wide = [make_layer(np.random.default_rng(0), filters=64, in_channels=64)]
    large = EncodedSnapshot(make_snapshot(np.random.default_rng(0), layers=wide))
    sender, receiver = pair(slots=64, max_bytes=large.nbytes * 3 // 2)
    while sender.send(small):
        pass
    while (received := receiver.receive(0.0)) is not None:
        receiver.say(done=received[0])
    list(sender.messages())

    assert large.nbytes > 3 * small.nbytes
    assert sender.in_flight == 0
    assert sender.send(large)


def test_a_torn_message_is_passed_over(pair):
    """A worker may die in the middle of a word; the next one is understood."""
    sender, receiver = pair(slots=2, max_bytes=2**30)
    os.write(sender.worker_fds[1], b'{"done": 0, "fau\n')
    receiver.say(state="ready")

    assert list(sender.messages()) == [{"state": "ready"}]


@pytest.mark.parametrize("name", ["done", "reached", "fault", "cause", "state"])
def test_z3_a_message_with_a_value_of_another_kind_is_passed_over(pair, name):
    """What is understood can be counted and logged without a further look."""
    sender, receiver = pair(slots=2, max_bytes=2**30)
    receiver.say(**{name: ["ready"]})
    receiver.say(state="ready")

    assert list(sender.messages()) == [{"state": "ready"}]
