"""Animated GIFs by PyAV: 256 colours for the whole film, chosen by some of its pictures."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.filter import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tensorview.worker.pictures.encoders import Write


@contextlib.contextmanager
def gif(
    path: Path, *, size: tuple[int, int], fps: int, look: Sequence[NDArray[Any]]
) -> Iterator[Write]:
    """Open a GIF that repeats for ever. See `tensorview.worker.pictures.encoders.encoder`."""
    palette = _palette(look, size=size)
    graph: Any = Graph()
    beat = Fraction(1, fps)
    pictures = graph.add_buffer(width=size[0], height=size[1], format="rgb24", time_base=beat)
    colours = graph.add_buffer(
        width=palette.width, height=palette.height, format=palette.format.name, time_base=beat
    )
    # Dithering would crawl over what does not change, and swell the file.
    use, sink = graph.add("paletteuse", "dither=none:diff_mode=rectangle"), graph.add("buffersink")
    pictures.link_to(use, 0, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    colours.push(palette)
    colours.push(None)
    with av.open(str(path), "w", format="gif") as output:
        stream: Any = output.add_stream("gif", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "pal8"
        count = 0

        def pass_on() -> None:
            with contextlib.suppress(av.BlockingIOError, av.EOFError):  # until there is no more
                while True:
                    output.mux(stream.encode(sink.pull()))

        def write(picture: NDArray[Any]) -> None:
            nonlocal count
            pictures.push(_timed(picture, count, beat))
            count += 1
            pass_on()

        yield write
        pictures.push(None)
        pass_on()
        output.mux(stream.encode(None))


def _palette(look: Sequence[NDArray[Any]], *, size: tuple[int, int]) -> av.VideoFrame:
    graph: Any = Graph()
    beat = Fraction(1, 1)
    source = graph.add_buffer(width=size[0], height=size[1], format="rgb24", time_base=beat)
    choose, sink = graph.add("palettegen", "reserve_transparent=0"), graph.add("buffersink")
    source.link_to(choose)
    choose.link_to(sink)
    graph.configure()
    for number, picture in enumerate(look):
        source.push(_timed(picture, number, beat))
    source.push(None)
    found: av.VideoFrame = sink.pull()
    found.pts = 0
    return found


def _timed(picture: NDArray[Any], number: int, beat: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = number, beat
    return frame
