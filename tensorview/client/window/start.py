"""What `tensorview view` gives to ParaView as its script: opens the window.

ParaView would open a box of messages over an exception and stay there, empty. So faults go to the
log, and ParaView ends: `tensorview view` then says what was the matter.
"""

import importlib.util
import json
import os
import traceback
from pathlib import Path

OPTIONS_VARIABLE = "TENSORVIEW_WINDOW"


def main() -> None:
    """Load the package by its location, then open the window that the environment asks for."""
    options = json.loads(os.environ[OPTIONS_VARIABLE])
    try:
        spec = importlib.util.spec_from_file_location("bootstrap", options.pop("bootstrap"))
        assert spec is not None
        assert spec.loader is not None
        bootstrap = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bootstrap)
        bootstrap.load_package()
        from tensorview.client.window import window  # noqa: PLC0415  # needs the above

        window.open_window(**options)
    except Exception:  # noqa: BLE001
        with Path(options["log_path"]).open("a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
        os._exit(1)  # sys.exit is but another exception to ParaView


main()
