"""What is installed from a wheel is complete: it runs without the checkout it was built from."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tensorview.client.paraview import find_paraview

ROOT = Path(__file__).parents[1]

LOADS = """
import importlib, json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from bootstrap import load_package

load_package()
import tensorview
from tensorview.outputs import catalyst_script

for name in sys.argv[2:]:
    importlib.import_module(name)
places = [m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] == "tensorview"]
scripts = [str(catalyst_script(name)) for name in ("live.py", "images.py")]
print(json.dumps({"places": places, "scripts": scripts}), file=sys.__stdout__, flush=True)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    options = ["--disable-pip-version-check", "--no-index", "-w", folder, ROOT]
    subprocess.run([*build, *options], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked").resolve()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    """Every module and both Catalyst scripts are in it; tests and examples are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tensorview").rglob("*.py")}
    scripts = {f"tensorview/{p.relative_to(ROOT)}" for p in ROOT.glob("catalyst_scripts/*.py")}

    assert scripts >= {f"tensorview/catalyst_scripts/{n}" for n in ("live.py", "images.py")}
    assert names >= modules | scripts
    assert {name for name in names if not name.startswith("tensorview/")} == set()
    assert {name.rpartition(".")[2] for name in names} <= {"py", "typed"}


@pytest.mark.paraview
def test_the_live_worker_runs_from_a_wheel(unpacked, tmp_path):
    """Under ParaView's Python everything the live worker needs comes from where it was unpacked."""
    code = tmp_path / "loads.py"
    code.write_text(LOADS)
    package = unpacked / "tensorview"
    modules = ["worker.main", "worker.views", "worker.sinks.live", "worker.replay"]
    done = subprocess.run(
        [
            find_paraview().pvpython,
            code,
            package / "worker",
            *(f"tensorview.{module}" for module in modules),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout.splitlines()[-1])

    assert len(found["places"]) > 10
    assert [place for place in found["places"] if not Path(place).is_relative_to(package)] == []
    assert found["scripts"] == [
        str(package / "catalyst_scripts" / name) for name in ("live.py", "images.py")
    ]
