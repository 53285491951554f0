"""A film: a page of every step of a run, one after the other to an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorview.errors import RunError
from tensorview.whole_files import open_temporary, temporary_path
from tensorview.worker.datasets import read_frame
from tensorview.worker.pictures import pages
from tensorview.worker.pictures.encoders import encoder
from tensorview.worker.pictures.scene import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from tensorview.run import Run
    from tensorview.worker.frame import Frame


def film(
    run: Run,
    path: Path,
    *,
    views: Sequence[str],
    title: str,
    size: tuple[int, int],
    fps: int,
    sample: int | None,
    note: Callable[[str], None],
) -> Generator[bool]:
    """Draw every step and encode it; the file is there once it is whole.

    Ranges, axes and boxes are those of the last step that can be read.

    Args:
        run: with at least one capture.
        path: its suffix chooses the encoder; what is there is replaced.
        views: of each page.
        title: of a page of several views.
        size: width and height in pixels, both even.
        fps: frames a second.
        sample: of the probe, for maps; None for the mean.
        note: called with a sentence if steps had to be left out.

    Yields:
        Step by step, whether it could be read.

    Raises:
        RunError: no step can be read, or the film cannot be encoded.
        ConfigurationError: there are no maps of *sample*.
        OSError: the file cannot be written.
    """
    steps = sorted(run.steps())
    last = _first_readable(run, steps[::-1])
    faults: list[str] = []
    temporary = temporary_path(path)
    try:
        # Python says better than an encoder why a file cannot be written.
        open_temporary(path).close()
        with Stage(size) as stage:

            def page(frame: Frame) -> NDArray[Any]:
                return pages.draw(views, frame, stage=stage, title=title, last=last, sample=sample)

            look: list[NDArray[Any]] = []
            if path.suffix == ".gif":
                middle = steps[len(steps) // 2 :]
                look = [page(_first_readable(run, some)) for some in (steps, middle)] + [page(last)]
            with encoder(temporary, suffix=path.suffix, size=size, fps=fps, look=look) as write:
                for step in steps:
                    try:
                        frame = last if step == last.step else read_frame(run, step)
                    except RunError as error:
                        faults.append(str(error))
                        yield False
                    else:
                        write(page(frame))
                        yield True
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if faults:
        note(
            f"Left out {len(faults)} of {len(steps)} steps, which cannot be read; the first: "
            f"{faults[0]}"
        )


def _first_readable(run: Run, steps: Iterable[int]) -> Frame:
    """Read the first of *steps* that can be read."""
    fault = "it holds no capture yet"
    for step in steps:
        try:
            return read_frame(run, step)
        except RunError as error:
            fault = str(error)
    raise RunError(f"Cannot make a film of run '{run.path}': no step can be read; last: {fault}")
