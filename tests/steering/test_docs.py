"""docs/steering.md says what there is."""

import re
from pathlib import Path

import pytest

from tensorview import cli, steering
from tests.steering.helpers import lines, watched

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "steering.md").read_text()


def test_every_line_of_the_command_line_is_understood():
    """Each command is shown, and no line that is shown is refused by the parser."""
    shown = re.findall(r"^tensorview (ctl .+?)(?: +#.*)?$", TEXT, re.MULTILINE)
    commands = {cli._parser().parse_args(line.split()).command for line in shown}

    assert commands == {*steering.COMMANDS, "status"}


def test_what_is_allowed_is_what_is_documented():
    """The table names every permission, and the defaults as they are."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", TEXT, re.MULTILINE)

    assert tuple(name for name, _ in rows) == steering.PERMISSIONS
    assert tuple(name for name, default in rows if default == "yes") == steering.ALLOWED_BY_DEFAULT


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    """Sending and waiting, as it stands there."""
    (code,) = re.findall(r"```python\n(from tensorview.*?)```", TEXT, re.DOTALL)
    with watched(tmp_path) as (watcher, run):
        monkeypatch.chdir(run.parent)
        (run.parent / "RUN").symlink_to(run)
        monkeypatch.setattr("time.sleep", lambda _seconds: watcher.step())
        exec(code)  # noqa: S102  # the documentation's own

    assert capsys.readouterr().out == "applied: Every 100 steps are captured from now on.\n"


@pytest.mark.parametrize("file", ["commands.jsonl", "steering.jsonl"])
def test_the_lines_are_as_documented(tmp_path, file):
    """The examples have the keys that the files have, in their order."""
    section = (DOCS / "data-format.md").read_text().partition("### Steering")[2]
    examples = re.findall(r"^    (\{.*?\})\n\n", section, re.MULTILINE | re.DOTALL)
    example = examples[file == "steering.jsonl"]
    with watched(tmp_path) as (_watcher, run):
        steering.send(run, "every", steps=100)
        written = (run / file).read_text().splitlines()[0]

    keys = re.findall(r'"(\w+)":', re.sub(r"\{\"steps.*?\}", "{}", example))
    found = re.findall(r'"(\w+)":', re.sub(r"\{\"steps.*?\}", "{}", written))
    assert keys == found[: len(keys)]


def test_every_state_is_documented(tmp_path):
    """The first line says who listens, with what the table says."""
    section = (DOCS / "data-format.md").read_text().partition("### Steering")[2].partition("###")[0]
    states = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    with watched(tmp_path) as (_watcher, run):
        first = lines(run)[0]

    source = Path(steering.__file__).with_name("listener.py").read_text()
    assert set(states) == set(re.findall(r'_answer\(\s*\S+, "(\w+)"', source))
    assert {"pid", "host", "run", "allow"} < set(first)
