"""`tensorview ctl`: commands to a training, from the command line."""

from __future__ import annotations

import argparse
import math
from typing import Any

from tensorview.errors import RunError
from tensorview.run import read_run_id
from tensorview.steering.client import Answer, Answers, send, wait

WAIT_SECONDS = 10.0
SHOWN_ANSWERS = 10


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Teach *parser* the commands; each sets ``command`` and the names of its ``arguments``."""
    parser.add_argument("run_dir", metavar="RUN", help="run directory of the training")
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="for the answer (default: %(default)g)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: str, text: str, *arguments: str) -> argparse.ArgumentParser:
        name = command.replace("_", "-")
        added = commands.add_parser(name, help=text, description=text, parents=[waiting])
        added.set_defaults(command=command, arguments=arguments)
        return added

    add("capture", "capture the present step")
    every = add("every", "capture every so many steps", "steps", "factor")
    every.add_argument("steps", metavar="STEPS", type=int, nargs="?")
    every.add_argument("--factor", type=float, help="of what it is now; 2 is half as often")
    focus = add("focus", "show one layer alone, as fully as can be", "layer")
    focus.add_argument("layer", metavar="LAYER", nargs="?", help="(default: all again)")
    select = add("select", "put filters into watcher.selected", "layer", "filters")
    select.add_argument("layer", metavar="LAYER")
    select.add_argument("filters", metavar="FILTER", type=int, nargs="*", help="(default: none)")
    pause = add("pause", "let training stand still", "seconds", "step")
    pause.add_argument("--seconds", type=float, help="at most (default: 300)")
    pause.add_argument("--at-step", type=int, metavar="STEP", dest="step", help="(default: now)")
    add("resume", "let a paused training go on")
    add("stop", "set watcher.should_stop, which the training's loop may obey")
    rate = add("learning_rate", "change the learning rate", "value", "factor")
    rate.add_argument("value", metavar="VALUE", type=float, nargs="?")
    rate.add_argument("--factor", type=float, help="of what it is now")
    prune = add("prune", "prune filters of a layer", "layer", "filters")
    prune.add_argument("layer", metavar="LAYER")
    prune.add_argument(
        "filters", metavar="FILTER", type=int, nargs="*", help="(default: the flagged ones)"
    )
    add("status", "show who listens, and the last answers")


def control(options: argparse.Namespace) -> tuple[int, str]:
    """Send a command and wait for its answer.

    Args:
        options: what `add_arguments` reads.

    Returns:
        Exit code, 0 where the command was applied, and a sentence.

    Raises:
        ConfigurationError: arguments that the command does not take.
        RunError: there is no run, or nobody listens to commands for it.
    """
    if options.command == "status":
        return _status(options.run_dir)
    given: dict[str, Any] = {name: getattr(options, name) for name in options.arguments}
    given = {name: value for name, value in given.items() if value is not None}
    if options.command == "prune" and not given["filters"]:
        del given["filters"]
    _check_listening(options.run_dir)
    sent = send(options.run_dir, options.command, origin="ctl", **given)
    answer = wait(options.run_dir, sent, options.wait)
    if answer is None:
        _check_listening(options.run_dir)
        return 1, (
            f"No answer within {options.wait:g} s: the training has not reached its next step. "
            f"The command stays in line; 'tensorview ctl {options.run_dir} status' shows what "
            f"becomes of it."
        )
    return int(answer.state != "applied"), answer.message


def _check_listening(run_dir: str) -> None:
    read_run_id(run_dir)
    with Answers(run_dir) as answers:
        said = answers.read()
    if not said:
        raise RunError(f"Cannot steer run '{run_dir}': its training does not listen to commands.")
    if answers.training is None:
        raise RunError(f"Cannot steer run '{run_dir}': its training is over, or watched no more.")
    if answers.training.is_gone:
        raise RunError(
            f"Cannot steer run '{run_dir}': its training, process {answers.training.pid}, has "
            f"ended."
        )


def _status(run_dir: str) -> tuple[int, str]:
    read_run_id(run_dir)
    with Answers(run_dir) as answers:
        said = answers.read()
    lines = list(map(_line, said[-SHOWN_ANSWERS:])) or ["No training listens to commands."]
    if answers.training is not None and answers.training.is_gone:
        lines.append(f"Its training, process {answers.training.pid}, has ended: nobody listens.")
    return 0, "\n".join(lines)


def _line(answer: Answer) -> str:
    what = f"{answer.command} from {answer.origin}: " if answer.command else ""
    return f"step {answer.step:>8}  {answer.state:<9}  {what}{answer.message}"
