"""From pictures to a film's file, picture by picture."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorview.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    Write = Callable[[NDArray[Any]], None]

THEORA_QUALITY = 2
"""The best of VTK's three."""
BT709 = 1
"""What ITU-T H.273 calls the colours of high definition; PyAV has no name for two of three."""


class _Codec(NamedTuple):
    """An encoder of PyAV, and what it and its container are told."""

    container: str
    encoder: str
    options: dict[str, str]
    container_options: dict[str, str]


# Quality is constant ("crf"), at values that leave letters and thin lines clean.
_CODECS = {
    ".webm": _Codec(
        "webm", "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "5", "row-mt": "1"}, {}
    ),
    # The index at the front, so that a browser can begin before all is loaded.
    ".mp4": _Codec("mp4", "libx264", {"crf": "18"}, {"movflags": "+faststart"}),
}


def encoder(
    path: Path, *, suffix: str, size: tuple[int, int], fps: int, look: Sequence[NDArray[Any]]
) -> AbstractContextManager[Write]:
    """Open a film; its file is complete once the context has ended without an error.

    Args:
        path: of the file, whatever its own suffix is.
        suffix: ``.webm`` (VP9), ``.mp4`` (H.264), ``.gif``, all by PyAV, or ``.ogv`` (Theora).
        size: width and height in pixels, both even.
        fps: frames a second.
        look: of a GIF, pictures by which its colours are chosen.

    Returns:
        A context with a function that adds a picture: shape ``(height, width, 3)``, uint8, row 0 at
        the top. It raises a RunError where the encoder fails, and an OSError where the file cannot
        be written.
    """
    if suffix == ".ogv":
        return _theora(path, fps=fps)
    if suffix == ".gif":
        from tensorview.worker.pictures.gif import gif  # noqa: PLC0415  # needs PyAV

        return gif(path, size=size, fps=fps, look=look)
    return _video(path, codec=_CODECS[suffix], size=size, fps=fps)


@contextlib.contextmanager
def _theora(path: Path, *, fps: int) -> Iterator[Write]:
    from vtkmodules.vtkIOOggTheora import vtkOggTheoraWriter  # noqa: PLC0415

    from tensorview.worker.pictures.props import rgb_image  # noqa: PLC0415

    writer = vtkOggTheoraWriter()
    writer.SetFileName(str(path))
    writer.SetRate(fps)
    writer.SetQuality(THEORA_QUALITY)
    count = 0

    def write(picture: NDArray[Any]) -> None:
        nonlocal count
        writer.SetInputData(rgb_image(picture))
        if count == 0:
            writer.Start()
        writer.Write()
        count += 1

    try:
        yield write
    finally:
        if count:
            writer.End()
    if not _is_whole_ogg(path):
        raise RunError("The film could not be written as a whole: is the disk full?")


def _is_whole_ogg(path: Path) -> bool:
    """Say whether every page of an Ogg file is there, which VTK does not ask the disk.

    A page begins with a header of 27 bytes (RFC 3533, section 6): its flags, of which 4 ends the
    stream, its number, how many segments it has, and then the length of each.
    """
    number, ended = 0, False
    with path.open("rb") as stream:
        while header := stream.read(27):
            if header[:4] != b"OggS" or int.from_bytes(header[18:22], "little") != number:
                return False
            lengths = stream.read(header[26])
            if len(stream.read(sum(lengths))) < sum(lengths):
                return False
            number, ended = number + 1, bool(header[5] & 4)
    return ended


@contextlib.contextmanager
def _video(path: Path, *, codec: _Codec, size: tuple[int, int], fps: int) -> Iterator[Write]:
    import av  # noqa: PLC0415  # optional
    from av.video.reformatter import ColorRange, Colorspace  # noqa: PLC0415

    with av.open(str(path), "w", format=codec.container, options=codec.container_options) as output:
        stream: Any = output.add_stream(codec.encoder, rate=fps, options=codec.options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"  # the one that every player knows
        # Players that are not told guess these by the height, and err.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG

        def write(picture: NDArray[Any]) -> None:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            output.mux(stream.encode(frame))

        yield write
        output.mux(stream.encode(None))
