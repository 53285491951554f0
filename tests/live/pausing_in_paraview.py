"""Run by ParaView's Python: the client without a window, paused by SIGUSR1 and resumed by SIGUSR2.

    pvpython pausing_in_paraview.py BOOTSTRAP OPTIONS

It does what ParaView's own menu does, Catalyst > Pause and Continue.
"""

import importlib.util
import json
import signal
import sys

spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()

from paraview import live  # noqa: E402  # the package first

from tensorview.client import headless, link  # noqa: E402

asked = []


class Link(link.Link):
    """Pauses between two looks, and not amidst what ParaView is at."""

    def receive(self):
        while asked:
            live.PauseCatalyst(self._link, asked.pop(0))
        return super().receive()


headless.Link = Link
for number, paused in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
    signal.signal(number, lambda *_, paused=paused: asked.append(paused))
sys.exit(headless.main(json.loads(sys.argv[2])))
