"""The index of a run: names of files, lines, and what is read of damaged ones."""

from __future__ import annotations

import io
import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorview.manifest import (
    MAX_PART_CHARACTERS,
    Entry,
    file_name,
    from_line,
    latest,
    layer_part,
    read_entries,
    to_line,
)

AWKWARD = ["", ".", "..", "../x", "/etc", "a/b", "a\0b", "a\nb", '<&"', "%", "%2E", "~", "a~b", "ä"]
names = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=40), st.text("./~%A", max_size=6))


def entry(*, step=50, capture=1, view="weights", layer=None, suffix=".vtp", size=10, crc32=7):
    name = file_name(view, step=step, layer=layer, suffix=suffix)
    return Entry(step, capture, view, layer, name, size, crc32)


def read(data):
    return read_entries(io.BytesIO(data))


@given(names)
@example("x" * 300)
@example("é" * 300)
def test_f5_layer_part_is_one_safe_path_part(layer):
    """Whatever a layer is called, its directory stays inside the run and fits a file system."""
    part = layer_part(layer)

    assert re.fullmatch(r"[A-Za-z0-9_%~-][A-Za-z0-9_.%~-]*", part)
    assert len(part) <= MAX_PART_CHARACTERS


@given(names)
def test_f5_layer_part_is_reversible(layer):
    """The standard percent-decoding gives the layer's name back, if it was not too long."""
    part = layer_part(layer)
    is_shortened = len(part) == MAX_PART_CHARACTERS and "~" in part

    assert is_shortened == ("~" in part)
    assert is_shortened or layer == unquote(part).removesuffix("%" if not layer else "")


@given(names, names)
@example("x" * 300, "x" * 299)
@example("x" * 300 + "a", "x" * 300 + "b")
@example(".a", "%2Ea")
@example("", "%")
def test_f5_different_layers_get_different_parts(one, other):
    """No two layers of a model share a directory."""
    assert (one == other) == (layer_part(one) == layer_part(other))


def test_f5_long_names_of_the_same_beginning_and_hash_form_stay_apart():
    """A layer that is literally called like another's shortened name gets a name of its own."""
    shortened = layer_part("x" * 300)

    assert layer_part(shortened) != shortened


@given(names, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
@example("x" * 300, 0, 0)
def test_lines_read_back(layer, step, crc32):
    """A line of the manifest holds everything about a file, the full layer name included."""
    written = entry(step=step, view="maps_atlas", layer=layer, suffix=".vti", crc32=crc32)

    assert written == from_line(to_line(written))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"step":50', b'"step":51'),
        (b'"step":50', b'"step":"50"'),
        (b'"step":50', b'"step":-1'),
        (b'"step":50', b'"step":true'),
        (b'"step":50', b'"step":1e2'),
        (b'"step":50', b'"step":' + b"9" * 6000),
        (b'"bytes":10', b'"bytes":99999999999'),
        (b'"bytes":10', b'"bytes":null'),
        (b'"view":"weights"', b'"view":"../weights"'),
        (b'"view":"weights"', b'"view":["weights"]'),
        (b'"layer":null', b'"layer":3'),
        (b'"layer":null', b'"layer":"conv1"'),
        (b"weights/00000050.vtp", b"../../etc/00000050.vtp"),
        (b"weights/00000050.vtp", b"/etc/passwd"),
        (b"weights/00000050.vtp", b"weights/00000050"),
        (b"weights/00000050.vtp", b"weights//00000050.vtp"),
        (b'"crc32":7', b'"crc32":7,"extra":1'),
        (b',"crc32":7', b""),
        (b'"crc32":7', b'"crc32":' + b"[" * 50_000 + b"]" * 50_000),
        (b"}", b""),
        (b"\n", b""),
        (b"weights", b"\xff\xfe"),
    ],
)
def test_lines_that_were_not_written_by_us_are_refused(old, new):
    """A line counts only if every part of it fits every other."""
    line = to_line(entry())

    assert old in line

    with pytest.raises(ValueError):
        from_line(line.replace(old, new))


@given(st.integers(0, 400))
def test_a_manifest_cut_anywhere_gives_its_intact_prefix(cut):
    """However a writer died, everything before the cut line is there."""
    entries = [entry(step=step) for step in range(4)]
    lines = [to_line(e) for e in entries]
    data = b"".join(lines)[:cut]
    whole = data.count(b"\n")

    found, intact, damaged = read(data)

    assert entries[:whole] == found
    assert len(b"".join(lines[:whole])) == intact
    assert (intact != len(data)) == damaged


def test_f8_a_line_that_is_being_written_is_left_for_later():
    """The rest of it, which comes while others are read, is no line; no capture lacks a file."""
    lines = [to_line(entry(step=step)) for step in (1, 2)]

    class Growing(io.BytesIO):
        def readline(self, size=-1):
            line = super().readline(size)
            if not line.endswith(b"\n"):  # then the writer goes on
                self.write(lines[1][10:])
                self.seek(-len(lines[1][10:]), io.SEEK_CUR)
            return line

    stream = Growing(lines[0] + lines[1][:10])
    entries, intact, damaged = read_entries(stream)

    assert ([entry.step for entry in entries], intact, damaged) == ([1], len(lines[0]), 1)


def test_damaged_lines_are_left_out_and_counted():
    """One bad spot does not cost the captures behind it."""
    lines = [to_line(entry(step=step)) for step in range(3)]
    bad = b"\0" * 5000 + b"\n"

    found, intact, damaged = read(lines[0] + bad + lines[1] + lines[2] + b"\0" * 99)

    assert [e.step for e in found] == [0, 1, 2]
    assert len(bad) + sum(map(len, lines)) == intact
    assert damaged == 2


def test_a_step_belongs_to_the_last_capture_that_wrote_it():
    """A run continued from a checkpoint shows each step once, without left-overs."""
    first = [entry(step=50, capture=1), entry(step=50, capture=1, view="maps")]
    again = [entry(step=50, capture=3, crc32=8)]
    between = [entry(step=100, capture=2)]

    found = latest([*first, *between, *again])

    assert {50: {again[0].file: again[0]}, 100: {between[0].file: between[0]}} == found
    assert list(found) == [50, 100]
