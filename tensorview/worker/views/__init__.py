"""Views: pure functions from a snapshot to VTK datasets, one module a view."""

from tensorview.worker.views.frames import make_frame

__all__ = ["make_frame"]
