"""Acting on a training that runs: clients append commands to a file, the step hook obeys them.

Clients need `send` and `wait`::

    from tensorview import steering

    sent = steering.send("RUN", "every", steps=100)
    print(steering.wait("RUN", sent, seconds=10).message)

Standard library only, since clients run under other Pythons, ParaView's too.
"""

from tensorview.steering.client import Answer, Answers, Training, send, wait
from tensorview.steering.commands import ALLOWED_BY_DEFAULT, COMMANDS, PERMISSIONS

__all__ = [
    "ALLOWED_BY_DEFAULT",
    "COMMANDS",
    "PERMISSIONS",
    "Answer",
    "Answers",
    "Training",
    "send",
    "wait",
]
