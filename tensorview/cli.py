"""The command line: `tensorview doctor | view | replay | ctl | export | check`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tensorview import __version__
from tensorview.errors import TensorviewError
from tensorview.settings import DEFAULT_PORT, check_port
from tensorview.steering.ctl import add_arguments, control
from tensorview.tabs import TABS

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except TensorviewError as error:
        print(f"tensorview: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorview", description="See inside a neural network while it trains."
    )
    parser.add_argument("--version", action="version", version=f"tensorview {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="say what is on this machine and what to do next")
    doctor.add_argument("--port", type=int, default=DEFAULT_PORT, help="(default: %(default)s)")
    doctor.set_defaults(run=_doctor)

    view = commands.add_parser(
        "view",
        help="open ParaView on a run, live or saved",
        description="Open ParaView, laid out and coloured: on the trainings that come to a port, "
        "one after another, or on a saved or still growing run.",
    )
    view.add_argument("run_dir", metavar="RUN", nargs="?", help="run directory (default: live)")
    view.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="to listen on, live (default: %(default)s)"
    )
    view.add_argument(
        "--install-macro",
        action="store_true",
        help="instead, give your own ParaView a button that lays out what Catalyst > Connect found",
    )
    view.set_defaults(run=_view)

    replay = commands.add_parser("replay", help="send a saved run to a live ParaView client")
    replay.add_argument("run_dir", metavar="RUN", help="run directory")
    replay.add_argument(
        "--to", default=f"localhost:{DEFAULT_PORT}", help="host:port of it (default: %(default)s)"
    )
    replay.add_argument(
        "--rate",
        type=float,
        default=4.0,
        help="captures a second (default: %(default)s; 0.5 for a first look)",
    )
    replay.set_defaults(run=_replay)

    ctl = commands.add_parser("ctl", help="act on a training that runs")
    add_arguments(ctl)
    ctl.set_defaults(run=_ctl)

    export = commands.add_parser(
        "export",
        help="make pictures, films or tables of a saved run",
        description="Make pictures and tables of one step of a saved run, and a film of all steps. "
        "Existing files are replaced.",
    )
    export.add_argument("run_dir", metavar="RUN", help="run directory")
    export.add_argument("--png", action="store_true", help="a picture of every view, and overview")
    export.add_argument("--csv", action="store_true", help="a table of every view")
    export.add_argument(
        "--movie",
        metavar="FILE",
        help="a film of all steps: .webm, .mp4, .gif (these need the package av) or .ogv; colours "
        "and axes are those of the last step throughout",
    )
    export.add_argument(
        "--tab",
        choices=TABS,
        help="draw this alone (default: every view and overview; --movie: overview)",
    )
    export.add_argument("--step", type=int, help="of pictures and tables (default: the last)")
    export.add_argument(
        "--sample", type=int, help="of the probe, for the maps (default: the mean over it)"
    )
    export.add_argument(
        "--size", type=_size, metavar="WxH", help="in pixels, even numbers (default: 1280x960)"
    )
    export.add_argument(
        "--fps", type=int, default=10, help="frames of the film a second (default: %(default)s)"
    )
    export.add_argument(
        "--out", help="directory of pictures and tables (default: RUN/pictures, RUN/tables)"
    )
    export.set_defaults(run=_export)

    check = commands.add_parser(
        "check",
        help="say whether every file of a saved run is whole",
        description="Read every file of a run and compare it with the manifest; name what is "
        "damaged, missing or left over. The exit code is 1 if anything is.",
    )
    check.add_argument("run_dir", metavar="RUN", help="run directory")
    check.add_argument(
        "--repair", action="store_true", help="drop all that, and bring the .pvd files up to date"
    )
    check.set_defaults(run=_check)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from tensorview.client.doctor import examine, report  # noqa: PLC0415

    port = check_port(options.port)
    findings = examine(port=port)
    print(report(findings, port=port))
    return int(any(finding.advice for finding in findings))


def _view(options: argparse.Namespace) -> int:
    from tensorview.client.view import add_layout_macro, view  # noqa: PLC0415

    if options.install_macro:
        return add_layout_macro()
    return view(options.run_dir, port=options.port)


def _replay(options: argparse.Namespace) -> int:
    from tensorview.replay import replay  # noqa: PLC0415

    return replay(options.run_dir, to=options.to, rate=options.rate)


def _ctl(options: argparse.Namespace) -> int:
    code, text = control(options)
    print(text)
    return code


def _export(options: argparse.Namespace) -> int:
    from tensorview.export import SIZE, export  # noqa: PLC0415

    return export(
        options.run_dir,
        png=options.png,
        csv=options.csv,
        movie=options.movie,
        tab=options.tab,
        step=options.step,
        out=options.out,
        sample=options.sample,
        size=options.size or SIZE,
        fps=options.fps,
    )


def _check(options: argparse.Namespace) -> int:
    from tensorview.check import prove, repair  # noqa: PLC0415

    proof = (repair if options.repair else prove)(options.run_dir)
    print(proof)
    if options.repair and not proof.whole:
        print("Repaired: what is named above was dropped, and the .pvd files were written anew.")
    elif not proof.whole:
        repaired = "With --repair what is named above is dropped, and .pvd files are written anew."
        print(proof.hindrance or repaired)
    return int(not proof.whole and not options.repair)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WxH, for example 1280x960, found {text!r}")
    return int(width), int(height)
