"""What is ours to set, and what the user has made theirs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.simple import GetTimeKeeper, Show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOLERANCE = 1e-9
"""By which ParaView may round what it is given, over and over: it normalises a camera's axes."""


class Upkeep:
    """Sets properties of ParaView's proxies, as long as they are as they were left here.

    What the user changed in the meantime stays, and is theirs from then on.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], Any] = {}
        self._left: dict[tuple[str, str], Any] = {}
        self._rows: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}

    def set(self, proxy: Any, **values: Any) -> None:
        """Set properties that belong together: all of them, or none if any was changed since."""
        owner = proxy.SMProxy.GetGlobalIDAsString()
        asked = {(owner, name): _plain(value) for name, value in values.items()}
        if asked.items() <= self._asked.items():
            return
        if not all(
            _same(self._left.get((owner, name), now), now)
            for name, now in ((name, _plain(getattr(proxy, name))) for name in values)
        ):
            return
        for name, value in values.items():
            setattr(proxy, name, value)
            # Read back, because ParaView completes some values.
            self._left[owner, name] = _plain(getattr(proxy, name))
        self._asked.update(asked)

    def forget(self, proxy: Any, *names: str) -> None:
        """Take properties as if they had never been set here."""
        owner = proxy.SMProxy.GetGlobalIDAsString()
        for name in names:
            self._asked.pop((owner, name), None)
            self._left.pop((owner, name), None)

    def set_rows(self, proxy: Any, name: str, rows: Mapping[str, Sequence[str]]) -> None:
        """Set a property of the form key, texts, key, texts, ..., as it has a colour a line.

        Every row is on its own: ours or the user's. Those that are not given, of which ParaView
        itself adds some, are left alone, and come last: a legend has the order of the rows.

        Args:
            proxy: whose.
            name: of the property.
            rows: texts by key, as many for each.
        """
        left = self._rows.setdefault((proxy.SMProxy.GetGlobalIDAsString(), name), {})
        wanted = {key: tuple(texts) for key, texts in rows.items()}
        if wanted.items() <= left.items():
            return
        given = proxy.SMProxy.GetProperty(name)
        flat = [given.GetElement(index) for index in range(given.GetNumberOfElements())]
        width = 1 + len(next(iter(wanted.values())))
        now = {flat[i]: tuple(flat[i + 1 : i + width]) for i in range(0, len(flat), width)}
        for key, texts in wanted.items():
            if key not in left or now.get(key) in (None, left[key]):
                now[key] = left[key] = texts
        flat = [text for key in {**wanted, **now} for text in (key, *now[key])]
        given.SetNumberOfElements(len(flat))
        for index, text in enumerate(flat):
            given.SetElement(index, text)
        proxy.SMProxy.UpdateVTKObjects()


def show_now(source: Any, view: Any) -> Any:
    """Show a source in a view, and return ParaView's representation.

    ParaView brings the source to the view's time first, which may still be the last one.
    """
    view.ViewTime = GetTimeKeeper().Time
    return Show(source, view)


def keep_quiet(proxy: Any) -> None:
    """Let nobody hear of changes of a source's or a representation's data, of those who listen now.

    These are panels and lists of ParaView's. At each change they would have every array summed up,
    which for a million values takes longer than to draw them. They still do so when the user
    selects the source, and filters that the user adds hear of all.
    """
    proxy.SMProxy.RemoveObservers("UpdateDataEvent")


def list_arrays(representation: Any) -> None:
    """Have ParaView's lists of what a representation can be coloured by written anew, this once.

    They are written when its input is set, and it is set to what it is.
    """
    given = representation.SMProxy.GetProperty("Input")
    source, port = given.GetProxy(0), given.GetOutputPortForConnection(0)
    given.RemoveAllProxies()
    given.AddInputConnection(source, port)
    representation.SMProxy.UpdateVTKObjects()


def is_open(view: Any) -> bool:
    """Say whether the user has not closed a view."""
    return bool(servermanager.ProxyManager().GetProxyName("views", view.SMProxy))


def _plain(value: Any) -> Any:
    """Return a property's value as something that compares."""
    if isinstance(value, str):
        return value
    try:
        return tuple(value)
    except TypeError:
        return value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(first == second)
