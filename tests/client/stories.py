"""Run in ParaView's Python: it is loaded once, and each story is played in a process of its own."""

import json
import os
import sys
import traceback
from pathlib import Path


def play_what_is_asked(stories):
    """Play stories in forks of this process, which has opened no view: they share nothing.

    A line of standard input, the name of a story and a folder as JSON, asks for one; ``played``
    says that it has ended. What it returned is in FOLDER/STORY.json then, unless it failed, and
    what ParaView complained of in FOLDER/STORY.txt.

    Args:
        stories: functions of a folder, by name.
    """
    for line in open(0, encoding="utf-8"):  # noqa: SIM115  # ParaView has replaced sys.stdin
        name, folder = json.loads(line)
        child = os.fork()
        if not child:
            _play(stories[name], Path(folder), name)
        os.waitpid(child, 0)
        print("played", file=sys.__stdout__, flush=True)


def _play(story, folder, name):
    complaints = os.open(folder / f"{name}.txt", os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(complaints, 2)  # VTK writes there past Python
    try:
        (folder / f"{name}.json").write_text(json.dumps(story(folder)))
    except BaseException:  # noqa: BLE001  # told, and nothing of the parent's is run
        os.write(2, traceback.format_exc().encode())
    os._exit(0)
