"""What a test can say of a picture without comparing bytes."""

import numpy as np

from tensorview.worker.pictures import pages
from tensorview.worker.pictures.colours import PAGE, to_bytes
from tensorview.worker.pictures.scene import Stage

SIZE = (640, 480)
PANELS = (slice(48, None), slice(0, 533))
"""Rows and columns of a picture of `SIZE` without header and legend."""
LEGEND = (slice(48, None), slice(540, None))
HEADER = (slice(0, 40), slice(None))


def draw(views, frame, *, size=SIZE, **options):
    """A page of one view, given by its name, or of several."""
    with Stage(size) as stage:
        return pages.draw(
            (views,) if isinstance(views, str) else views, frame, stage=stage, **options
        )


def ink(picture):
    """Where the page is not blank."""
    return np.abs(picture.astype(int) - to_bytes(np.array(PAGE))).max(axis=-1) > 12


def count(picture, colour, *, tolerance=3):
    """How many pixels have *colour*, given as floats."""
    away = np.abs(picture.astype(int) - to_bytes(np.array(colour))).max(axis=-1)
    return int((away <= tolerance).sum())


def reds(picture):
    """How many pixels are clearly red."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return int(((r - b > 50) & (r - g > 40)).sum())


def blues(picture):
    """How many pixels are clearly blue."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return int(((b - r > 50) & (b - g > 10)).sum())
