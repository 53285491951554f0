"""Run in ParaView's Python: it is loaded once, and each story is played in a process of its own."""

import json
import os
import signal
import traceback

STORY_SECONDS = 100
"""Then a story that hangs is ended."""


def play_what_is_asked(*stories, folder):
    """Play stories in forks of this process, which has opened no view: none sees another's.

    A line of standard input names one; ``played`` says that it has ended. What it returned is then
    in FOLDER/STORY.json, unless it failed. What failed, and ParaView's complaints, go to standard
    error.

    Args:
        stories: functions without arguments.
        folder: a path.
    """
    by_name = {story.__name__: story for story in stories}
    for line in open(0, encoding="utf-8"):  # noqa: SIM115  # ParaView has replaced sys.stdin
        name = line.strip()
        child = os.fork()
        if not child:
            signal.alarm(STORY_SECONDS)  # it ends C++ as well
            os.dup2(2, 1)  # what a story prints is no answer
            try:
                (folder / f"{name}.json").write_text(json.dumps(by_name[name]()))
            except BaseException:  # noqa: BLE001  # told, and nothing of the parent's is run
                os.write(2, traceback.format_exc().encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"played\n")
