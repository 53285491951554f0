"""Scalars: a table as point arrays, names kept readable by VTK files."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLPolyDataWriter

from tensorview.worker.views import make_frame
from tensorview.worker.views.datasets import safe_name, safe_text
from tests.snapshots import make_snapshot
from tests.views.reading import columns, points


def draw(**scalars):
    snapshot = make_snapshot(np.random.default_rng(0), layers=[])
    snapshot = dataclasses.replace(snapshot, scalars=scalars)
    return make_frame(snapshot).datasets["scalars"]


def test_every_column_is_a_point_array_bit_for_bit():
    """One point and one vertex a row; columns keep NaN, infinities and -0.0."""
    steps = np.array([0.0, 50, 100, 200])
    loss = np.array([np.nan, np.inf, -0.0, 5e-324])
    polydata = draw(step=steps, loss=loss)
    at_points = columns(polydata.GetPointData())

    assert polydata.GetNumberOfCells() == polydata.GetNumberOfVerts() == 4
    assert at_points["step"].tobytes() == steps.tobytes()
    assert at_points["loss"].tobytes() == loss.tobytes()
    assert points(polydata)[:, 0].tolist() == [0, 0.25, 0.5, 1]
    assert columns(polydata.GetCellData())["layer"].tolist() == [-1] * 4


def test_steps_that_are_not_finite_leave_coordinates_finite():
    """They lie at 0."""
    polydata = draw(step=np.array([np.nan, np.inf, 10]))

    assert points(polydata)[:, 0].tolist() == [0, 0, 1]


@given(st.text(min_size=1))
def test_names_can_be_read_back(name):
    """Percent-encoding is reversible, whatever a layer is called."""
    decoded = unquote(safe_name(name), errors="surrogatepass")

    assert decoded == name


def test_only_what_breaks_files_is_encoded():
    """Ordinary names, blanks and letters of any language stay as they are."""
    assert safe_name("features.0/weight norm") == "features.0/weight norm"
    assert safe_name("Gewichtsmaß") == "Gewichtsmaß"
    assert safe_name('a<b&"c"\n%') == "a%3Cb%26%22c%22%0A%25"
    assert safe_name("") == "%"
    assert safe_text("a\0b<\ud800") == "a%00b<%ED%A0%80"


def test_f5_hostile_names_survive_a_file():
    """A table whose columns break XML is written and read again with all its arrays."""
    names = ["step", "<&\"'>", "\x01\n\t", "", "a\0b", "\ud800", "ünïcode"]
    polydata = draw(**{name: np.array([1.5, 2.5]) for name in names})
    writer = vtkXMLPolyDataWriter()
    writer.SetInputData(polydata)
    writer.WriteToOutputStringOn()
    writer.Write()
    reader = vtkXMLPolyDataReader()
    reader.ReadFromInputStringOn()
    reader.SetInputString(writer.GetOutputString())
    reader.Update()
    at_points = columns(reader.GetOutput().GetPointData())

    assert [safe_name(name) for name in names] == list(at_points)
    assert all(values.tolist() == [1.5, 2.5] for values in at_points.values())
