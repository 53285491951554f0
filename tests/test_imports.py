"""Each heavy library lives in its own rooms, and imports between the rooms point one way."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorview.client.paraview import NO_MPI, find_paraview
from tensorview.launch import BOOTSTRAP, worker_environment
from tests.doubles import free_port

PACKAGE = Path(__file__).parents[1] / "tensorview"

# Library -> the places of the package that may import it, as paths from its root.
ROOMS = {
    "torch": ("api.py", "watcher.py", "capture/", "analysis/", "pruning/"),
    "torch_pruning": ("pruning/structure.py",),
    "scipy": (),
    "vtkmodules": ("worker/", "client/window/"),
    "vtk": (),
    "paraview": ("worker/sinks/live.py", "client/link.py", "client/window/"),
}

# What runs in a worker never sees what runs in the training, and the other way round.
TRAINING = (
    *("tensorview.api", "tensorview.watcher", "tensorview.capture", "tensorview.analysis"),
    *("tensorview.memory", "tensorview.pruning"),
)
WORKER = ("tensorview.worker",)


def imports(source):
    """Modules imported by a source text anywhere, type checking apart."""
    found = []
    for node in _outside_type_checking(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def _outside_type_checking(tree):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _outside_type_checking(node)


def strangers(path, source):
    """Imports of a file that do not belong there."""
    return [
        name
        for name in imports(source)
        if (library := name.partition(".")[0]) in ROOMS and not path.startswith(ROOMS[library])
    ]


def sources():
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text()
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_each_library_stays_in_its_rooms():
    """torch with the training, VTK with the workers, ParaView where it is ParaView's own Python."""
    found = {path: strangers(path, source) for path, source in sources().items()}

    assert {path: names for path, names in found.items() if names} == {}


def test_the_check_can_fail():
    """A misplaced import is found, also inside a function; one for types alone is not counted."""
    assert strangers("run.py", "def f():\n    import torch.nn") == ["torch.nn"]
    assert strangers("worker/main.py", "from torch import nn") == ["torch"]
    assert strangers("watcher.py", "if TYPE_CHECKING:\n    import vtkmodules") == []


def test_imports_between_the_sides_point_one_way():
    """Workers import nothing of the training side, and the training nothing of the workers'."""
    for path, source in sources().items():
        names = imports(source)
        if path.startswith("worker/"):
            assert not [name for name in names if name.startswith(TRAINING)], path
        elif not path.startswith("client/"):
            assert not [name for name in names if name.startswith(WORKER)], path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tensorview", ("numpy", "torch", "vtkmodules", "paraview", "scipy", "tqdm")),
        ("tensorview.snapshot", ("torch", "vtkmodules", "paraview", "scipy")),
        ("tensorview.supervisor", ("torch", "vtkmodules", "paraview", "scipy")),
        ("tensorview.run", ("numpy", "torch", "vtkmodules", "paraview", "scipy")),
        ("tensorview.cli", ("torch", "vtkmodules", "paraview", "scipy")),
        ("tensorview.worker.views", ("torch", "paraview", "scipy")),
        ("tensorview.watcher", ("vtkmodules", "vtk", "paraview", "scipy")),
    ],
)
def test_importing_a_module_loads_nothing_else(module, absent):
    """What a fresh interpreter holds after the import."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert set(absent) & set(result.stdout.split()) == set()


LISTENING = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()
from tensorview.client import headless
headless.Link.listen(port=int(sys.argv[2]))
print("paraview.servermanager" in sys.modules, "paraview.simple" in sys.modules)
"""


@pytest.mark.paraview
def test_a_viewer_without_a_window_starts_without_paraview_simple():
    """Only the window needs `paraview.simple`, which takes long to load."""
    result = subprocess.run(
        [find_paraview().pvpython, NO_MPI, "-c", LISTENING, BOOTSTRAP, str(free_port())],
        env=worker_environment(os.environ, foreign_python=True),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "True False"
