"""What is ours to set, and what the user has made theirs."""

from __future__ import annotations

from typing import Any

from paraview import servermanager


class Upkeep:
    """Sets properties of ParaView's proxies, as long as they are as they were left here.

    What the user changed in the meantime stays, and is theirs from then on.
    """

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], Any] = {}

    def set(self, proxy: Any, **values: Any) -> None:
        """Set properties that belong together: all of them, or none if any was changed since."""
        owner = proxy.SMProxy.GetGlobalIDAsString()
        asked = {name: _plain(value) for name, value in values.items()}
        if all(self._left.get((owner, name), (None,))[0] == asked[name] for name in asked):
            return
        if not self.is_ours(proxy, *values):
            return
        for name, value in values.items():
            setattr(proxy, name, value)
            # Read back, because ParaView rounds some values and completes others.
            self._left[owner, name] = (asked[name], _plain(getattr(proxy, name)))

    def is_ours(self, proxy: Any, *names: str) -> bool:
        """Say whether properties are as they were left here; so are those that never were set."""
        owner = proxy.SMProxy.GetGlobalIDAsString()
        return all(
            (owner, name) not in self._left
            or self._left[owner, name][1] == _plain(getattr(proxy, name))
            for name in names
        )


def _plain(value: Any) -> Any:
    """Return a property's value as something that compares."""
    if isinstance(value, str):
        return value
    try:
        return tuple(value)
    except TypeError:
        return value


def is_open(view: Any) -> bool:
    """Say whether the user has not closed a view."""
    return bool(servermanager.ProxyManager().GetProxyName("views", view.SMProxy))
