"""A ParaView of the user's own, connected by its own means, gets the same layout from a button."""

import os
import subprocess
import sys
import time

import pytest

from tensorview.client.paraview import find_paraview
from tensorview.client.view import find_window
from tensorview.sockets import viewer_listens
from tests.doubles import free_port, wait_until
from tests.gui.desk import Desk

WELCOMES_NOBODY = """[General]
GeneralSettings.ShowWelcomeDialog=0
OutputMessages.AlwaysOpenForNewMessages=false

[MainWindow]
Size=@Size(1600 960)
"""


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_macro_lays_out_what_catalyst_connect_found(tmp_path, train):
    """One press after the training has come: four coloured views, in the user's own ParaView."""
    port, paraview = free_port(), find_paraview()
    command = [find_window(paraview), "--live", str(port)]
    desk = Desk(tmp_path, command=list(map(str, command)), answers=False)
    folder = desk.config / "ParaView"
    folder.mkdir(parents=True)
    version = ".".join(map(str, paraview.version))
    (folder / f"ParaView{version}.ini").write_text(WELCOMES_NOBODY)
    subprocess.run(
        [sys.executable, "-m", "tensorview", "view", "--install-macro"],
        env={**os.environ, "XDG_CONFIG_HOME": str(desk.config)},
        check=True,
        timeout=30,
        stdout=subprocess.DEVNULL,
    )
    with desk:
        wait_until(lambda: viewer_listens(port), seconds=60, what="ParaView to listen")
        train("run", port=port)
        wait_until(lambda: not viewer_listens(port), seconds=60, what="the training to connect")
        time.sleep(1)  # ParaView closes the box that asks to wait
        desk.press("tensorview layout")
        desk.press("tensorview layout")  # impatience does no harm
        desk.see_all()
