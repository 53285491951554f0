"""What must not be in the package, whoever writes it: found in its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tensorview

ROOT = Path(tensorview.__file__).parent
SCRIPTS = ROOT.parent / "catalyst_scripts"
MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "dbm"),
    *("yaml", "socketserver", "http.server", "xmlrpc", "xmlrpc.server", "ftplib", "telnetlib"),
    *("xml.etree", "xml.etree.ElementTree", "xml.dom", "xml.dom.minidom", "xml.sax", "asyncio"),
}
"""Of XML: their parsers expand entities. We read no XML but our own, see `vtk_xml_reader`."""
CALLS = {"eval", "exec", "compile", "__import__", "importlib.import_module"}
METHODS = {
    "torch.load": "unpickles",
    "torch.package": "unpickles",
    "os.system": "a shell",
    "os.popen": "a shell",
    "tempfile.mktemp": "a name that another may take",
    "listen": "a socket that listens",
    "create_server": "a socket that listens",
    "start_server": "a socket that listens",
    "bind": "a socket that listens",
    "serve_forever": "a server",
}
KEYWORDS = {"shell": "a shell", "allow_pickle": "unpickles"}
MODES = {"mkdir", "makedirs", "chmod", "fchmod", "open", "mkfifo", "mknod", "mkdtemp"}
OTHERS_MAY = 0o077
LARGEST_OTHER = 7
"""Numbers up to here are no modes: buffer sizes and the like."""
ALLOWED = {
    ("client/link.py", "bind: a socket that listens"): "asks whether a port is free, never listens",
    ("client/headless.py", "listen: a socket that listens"): "ParaView's Catalyst port, on request",
    ("client/window/window.py", "listen: a socket that listens"): "likewise",
    ("sockets.py", "bind: a socket that listens"): "likewise",
    ("__init__.py", "importlib.import_module"): "one of our own modules, by a table",
    ("worker/bootstrap.py", "importlib.import_module"): "one of our own modules, named by us",
}


def faults(source, *, name):
    """Return what is forbidden in a module, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += [(node, what) for what in _faults(node)]
    return [f"{name}:{node.lineno}: {what}" for node, what in found if (name, what) not in ALLOWED]


def _faults(node):
    if isinstance(node, ast.Import):
        yield from (f"import {a.name}" for a in node.names if _is_forbidden(a.name))
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{a.name}" for a in node.names]
        yield from (f"import {name}" for name in names if _is_forbidden(name))
        yield from (f"{name}: {METHODS[name]}" for name in names if name in METHODS)
    if isinstance(node, ast.Call):
        yield from _faults_of_call(node, called=ast.unparse(node.func))


def _faults_of_call(node, *, called):
    last = called.rpartition(".")[2]
    if called in CALLS:
        yield called
    for known in {called, last} & METHODS.keys():
        yield f"{known}: {METHODS[known]}"
    for keyword in node.keywords:
        given = keyword.value.value if isinstance(keyword.value, ast.Constant) else True
        if keyword.arg in KEYWORDS and given:
            yield f"{keyword.arg}: {KEYWORDS[keyword.arg]}"
    values = [*node.args, *(keyword.value for keyword in node.keywords)] if last in MODES else []
    for value in values:
        number = value.value if isinstance(value, ast.Constant) else None
        if type(number) is int and number > LARGEST_OTHER and number & OTHERS_MAY:
            yield f"mode {number:#o}: open to others"


def _is_forbidden(name):
    parts = name.split(".")
    return any(".".join(parts[: n + 1]) in MODULES for n in range(len(parts)))


def modules():
    return sorted([*ROOT.rglob("*.py"), *SCRIPTS.rglob("*.py")])


def test_p9_nothing_forbidden_is_in_the_package():
    """No pickle, no evaluated text, no shell, no socket that listens, no file for everyone."""
    assert len(modules()) > 100
    found = []
    for path in modules():
        name = str(path.relative_to(ROOT if path.is_relative_to(ROOT) else SCRIPTS.parent))
        found += faults(path.read_text(encoding="utf-8"), name=name)
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import marshal as m",
        "from shelve import open",
        "from xml.dom.minidom import parse",
        "from http.server import HTTPServer",
        "import yaml",
        "eval('1')",
        "exec(text)",
        "compile(text, '', 'exec')",
        "torch.load(path)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=wanted)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "tempfile.mktemp()",
        "server.bind(('', 1))",
        "server.listen()",
        "socket.create_server(('', 1))",
        "path.mkdir(mode=0o755)",
        "os.open(path, flags, 0o644)",
        "path.chmod(0o777)",
    ],
)
def test_p9_each_forbidden_thing_would_be_found(line):
    """The search sees every one of them, wherever it stands."""
    source = f"def f():\n    if True:\n        {line}\n"
    (fault,) = faults(source, name="module.py")
    assert fault.startswith("module.py:3: ")


@pytest.mark.parametrize(
    "line",
    [
        "re.compile(pattern)",
        "np.load(path, allow_pickle=False)",
        "subprocess.run(command, shell=False)",
        "os.open(path, flags, 0o600)",
        "path.mkdir(mode=0o700)",
        "model.eval()",
        "connection.connect(address)",
    ],
)
def test_p9_what_is_fine_is_left_alone(line):
    """The search can be believed."""
    assert faults(line, name="module.py") == []


def test_p9_what_is_allowed_is_still_there():
    """An exception whose reason has gone, goes too."""
    for name, what in list(ALLOWED):
        with pytest.MonkeyPatch.context() as patch:
            patch.delitem(ALLOWED, (name, what))
            source = (ROOT / name).read_text(encoding="utf-8")
            found = faults(source, name=name)
        assert any(fault.endswith(f": {what}") for fault in found), name
