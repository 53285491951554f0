"""Started by file in a worker's Python: load the package `tensorview` and nothing else, then run.

Under ParaView's Python our site-packages must never enter the path, or pip's ``vtkmodules`` and
numpy would be imported in place of ParaView's own. So the package is loaded by its location.

Usage: ``python bootstrap.py MODULE JSON``: runs ``main(options)`` of ``tensorview.MODULE``.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path


def load_package() -> None:
    """Import `tensorview` from this file's own location."""
    package = Path(__file__).resolve().parent.parent
    # Neither this folder nor the current one may shadow a top-level module.
    sys.path[:] = [place for place in sys.path if place and Path(place) != package / "worker"]
    spec = importlib.util.spec_from_file_location(
        "tensorview", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {package}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tensorview"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    load_package()
    sys.exit(importlib.import_module(f"tensorview.{sys.argv[1]}").main(json.loads(sys.argv[2])))
