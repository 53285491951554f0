"""Pictures: frames drawn offscreen with VTK, one page a view.

`draw` in `tensorview.worker.pictures.pages` is the pure core, `main` the process behind
``tensorview export``. Colours live in `colours`, without VTK, for whoever draws the same views.
"""
