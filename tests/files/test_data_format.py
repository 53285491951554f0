"""docs/data-format.md says what the files hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.worker.csv_text import csv_bytes
from tensorview.worker.datasets import arrays, blocks
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.tables import tables
from tensorview.worker.views import make_frame
from tests.snapshots import make_snapshot

TEXT = (Path(__file__).parents[2] / "docs" / "data-format.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))
COMMON = TEXT.partition("## Datasets")[2].partition("###")[0]


@pytest.fixture
def frames():
    return {
        form: make_frame(make_snapshot(np.random.default_rng(0), form=form, step=50))
        for form in ("cells", "atlas")
    }


def documented(section):
    """Names in the first column of a section's table."""
    rows = re.findall(r"^\| (?!-)(.+?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)", row)}


def field_names(dataset):
    return set(arrays(dataset.GetFieldData()))


@pytest.mark.parametrize("view", [c for c in POLYDATA_CHANNELS if c != "scalars"])
def test_every_array_of_a_view_is_documented(frames, view):
    """The tables name exactly the arrays that the datasets have."""
    dataset = frames["cells"].datasets[view]
    own = set(arrays(dataset.GetPointData())) | set(arrays(dataset.GetCellData()))
    own |= field_names(dataset) - documented(COMMON)

    assert {re.sub(r"_\d+$", "_", name) for name in own} == documented(SECTIONS[view])
    assert documented(COMMON) <= field_names(dataset)


def test_every_array_of_an_atlas_is_documented(frames):
    """So do those of the images."""
    section = SECTIONS["Images of an atlas"]
    images = [i for c in ATLAS_CHANNELS for _, i in blocks(frames["atlas"].datasets[c])]

    assert documented(section) == set().union(*map(field_names, images)) - documented(COMMON)
    for image in images:
        for name in arrays(image.GetCellData()):
            assert f"`{re.sub(r'_[0-9]+$', '_<i>', name)}`" in section


@pytest.mark.parametrize("view", [c for c in POLYDATA_CHANNELS if c != "scalars"])
def test_every_column_of_a_table_is_documented(frames, view):
    """The headers of tables are those of the documentation."""
    found = csv_bytes(tables(view, frames["cells"].datasets[view])).decode().splitlines()[0]
    (columns,) = re.findall(rf"^\| `{view}/<step>.csv` \| (.+?) \|$", TEXT, re.MULTILINE)

    assert re.sub(r"_i \.\.\.$", "_0", columns).split(", ") == found.split(",")


def test_the_code_runs(frames, tmp_path, monkeypatch):
    """Every piece of Python in the documentation runs as it stands."""
    monkeypatch.chdir(tmp_path)
    Run.create("RUN", settings={"name": "LeNet"})
    sink = FileSink("RUN", formats=("vtp", "csv"))
    sink.write(frames["cells"])
    sink.close()
    pieces = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)

    assert len(pieces) == 2

    # The only layer that its second piece names in an atlas is here in cells.
    for piece in pieces:
        exec(re.sub(r"^run\.read_bytes\(\"maps_atlas.*$", "", piece, flags=re.MULTILINE), {})  # noqa: S102
