"""Run by ParaView's Python: make a frame of a stored snapshot and print its checksums.

    pvpython frame_in_paraview.py PROJECT SNAPSHOT.npz

Both packages are loaded by their place on disk, so that nothing else of the caller's environment
comes with them.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np


def load(name, project):
    """Import the package *name* from the directory *project* without extending the path."""
    folder = Path(project) / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def main(project, path):
    """Print the checksums as JSON."""
    load("tensorview", project)
    load("tests", project)
    from_table = importlib.import_module("tensorview.snapshot").from_table
    make_frame = importlib.import_module("tensorview.worker.views").make_frame
    digests = importlib.import_module("tests.views.reading").digests
    with np.load(path) as stored:
        table = json.loads(str(stored["table"]))
        snapshot = from_table(table, [stored[f"array{k}"] for k in range(len(stored) - 1)])
    sys.stdout.write("RESULT" + json.dumps(digests(make_frame(snapshot))))


if __name__ == "__main__":
    main(*sys.argv[1:])
