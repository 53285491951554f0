"""The window as a whole: where its data come from, what is shown, and the clock that drives it."""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraview.simple import GetAnimationScene

from tensorview.client.link import Link
from tensorview.client.window import buttons
from tensorview.client.window.live import LiveFeed
from tensorview.client.window.plugin import Chooser
from tensorview.client.window.pointer import Pointer
from tensorview.client.window.replay import ReplayFeed
from tensorview.client.window.selection import Selection
from tensorview.client.window.steering import Steering
from tensorview.client.window.tabs import Tabs
from tensorview.run import Run
from tensorview.worker.datasets import arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

TICK_MILLISECONDS = 50
"""How often a timer comes, and how often at most anything is done: there are several timers."""
WORTH_RESTING_SECONDS = 0.005
"""Work below that is done at every tick; after longer work as long a rest follows, so that the
window takes half of one core at most."""
LONGEST_REST_SECONDS = 1.0
"""A window that stands still for longer is taken to be hung."""


class Window:
    """Everything that is shown of one feed.

    Args:
        feed: live or saved.
        log_path: where faults of ours are told in full.
    """

    def __init__(self, feed: LiveFeed | ReplayFeed, *, log_path: Path) -> None:
        self.feed = feed
        self._log_path = log_path
        self._faults: set[str] = set()
        self._free_at = 0.0
        self._focus = ""
        self._said = self._message = ""
        self.chooser = Chooser()
        self.shown: dict[str, Any] = {}
        self._add_sources()
        self.tabs = Tabs(self.shown)
        self.pointer = Pointer()
        self.selection = Selection(self.shown)
        self.steering = Steering(self._tell, self.selection)
        self._drawn_by_time: list[Any] = []
        if isinstance(feed, ReplayFeed):
            feed.before_drawing(lambda: self._prepare(feed))

    def start_clock(self) -> None:
        """Let ParaView's event loop call `tick` from now on.

        A timer belongs to a view, and any view may be closed: so several have one.
        """
        for views in self.tabs.views.values():
            interactor = views[0].GetInteractor()
            interactor.AddObserver("TimerEvent", lambda *_: self.tick())
            interactor.CreateRepeatingTimer(TICK_MILLISECONDS)
            for view in views:
                self.pointer.follow(view.GetInteractor())

    def tick(self) -> None:
        """Take what is new and show it; called again and again. Raises nothing."""
        started = time.monotonic()
        if started < self._free_at or self.pointer.is_busy:
            return
        used = time.process_time()  # of all threads: ParaView may draw with several
        self._guard(self._tick)
        ended = time.monotonic()
        worked = max(ended - started, time.process_time() - used)
        rest = min(worked, LONGEST_REST_SECONDS) if worked > WORTH_RESTING_SECONDS else 0.0
        self._free_at = max(ended + rest, started + TICK_MILLISECONDS / 1000)

    def _guard(self, action: Callable[[], None]) -> None:
        self._free_at = math.inf  # rendering may call us again
        try:
            action()
        except Exception as error:  # noqa: BLE001  # a traceback would open a box in ParaView
            self._note_fault(error)
        self._free_at = 0.0

    def _tick(self) -> None:
        picked = self.selection.changed()  # before the cells get other numbers
        new = self.feed.poll()
        self.steering.poll()
        if new:
            self._take_over()
        said = self._say()
        if self.chooser.apply() or new or self.tabs.changed_tab():
            self._update()
            self._render()
        elif picked or said:
            self.tabs.update()
            self._render()

    def _prepare(self, feed: ReplayFeed) -> None:
        """Follow ParaView's time controls; ParaView draws by itself after this."""

        def prepare() -> None:
            if feed.moved():
                self._take_over()
                self._update()

        if self._free_at < math.inf:  # else it is we who move the time
            self._guard(prepare)

    def _take_over(self) -> None:
        """Follow what the data say of their run."""
        self._add_sources()
        self.steering.run_is(*self.feed.run())
        self._follow_focus()

    def _update(self) -> None:
        """Bring what the user looks at up to date, without drawing it."""
        for channel in self.tabs.front_channels() & self.shown.keys():
            self._bring(self.shown[channel])
        self.selection.refresh()
        self.tabs.update()

    def _bring(self, proxy: Any) -> None:
        """Bring the data of a source or filter up to date.

        The proxy's own way would also sum up every array for ParaView's panels, each time.
        """
        algorithm = proxy.GetClientSideObject()
        if self.feed.time is None:
            algorithm.Update()
        else:
            algorithm.UpdateTimeStep(self.feed.time)

    def _render(self) -> None:
        views = self.tabs.front_views()
        if views != self._drawn_by_time:
            # Else ParaView draws every tab at each step of time.
            self._drawn_by_time = GetAnimationScene().ViewModules = views
        self.tabs.render()

    def _add_sources(self) -> None:
        """Put the chooser's filter behind every source that has none yet."""
        for channel, source in self.feed.sources.items():
            if channel not in self.shown:
                self.shown[channel] = (
                    source if channel == "scalars" else self.chooser.filter(source, name=channel)
                )

    def _follow_focus(self) -> None:
        """Offer the run's layers, and show what the training puts in focus."""
        notes = self._notes()
        if "layers" not in notes:
            return
        self.chooser.offer([str(name) for name in notes["layers"]])
        focus = str(notes["focus"][0]) if "focus" in notes else ""
        if focus != self._focus:
            self._focus = focus
            self.chooser.choose([focus] if focus else None)

    def _notes(self) -> Mapping[str, NDArray[Any]]:
        """Return the field data of any view that has some."""
        for source in self.feed.sources.values():
            self._bring(source)
            dataset = source.GetClientSideObject().GetOutputDataObject(0)
            found = arrays(dataset.GetFieldData())
            if "layers" in found:
                return found
        return {}

    def _tell(self, message: str) -> None:
        self._message = message

    def _say(self) -> bool:
        """Bring the status line up to date; say whether it has changed."""
        text = "\n".join(filter(None, (self.feed.status, self._message)))
        if text == self._said:
            return False
        self._said = text
        self.tabs.say(text)
        return True

    def _note_fault(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text not in self._faults:  # each once: this runs twenty times a second
            self._faults.add(text)
            with self._log_path.open("a", encoding="utf-8") as log:
                log.writelines(traceback.format_exception(error))
            self._tell(f"tensorview: {text} (more in {self._log_path})")


def open_window(*, port: int, run_dir: str, log_path: str) -> None:
    """Open the window on a run, or on the trainings that come to a port.

    Args:
        port: to listen on, where *run_dir* is empty.
        run_dir: a run directory, or empty.
        log_path: where faults of ours are told in full.

    Raises:
        ParaViewError: *port* is taken.
        RunError: there is no run in *run_dir*.
    """
    feed: LiveFeed | ReplayFeed
    if run_dir:
        feed = ReplayFeed(Run.open(run_dir))
    else:
        feed = LiveFeed(Link.listen(port=port), waiting=f"waiting for a training on port {port}")
    buttons.window = Window(feed, log_path=Path(log_path))
    buttons.window.start_clock()


def adopt() -> None:
    """Lay out the training that *Catalyst > Connect* has connected to; what the macro does."""
    if buttons.is_opening:  # pressed again while ParaView makes the views
        return
    link = Link.adopt()
    if link is None:
        print("No training is connected. Choose Catalyst > Connect, start it, then do this again.")
    elif buttons.window is not None and isinstance(buttons.window.feed, LiveFeed):
        buttons.window.feed.link = link
    else:
        log_path = Path(tempfile.mkdtemp(prefix="tensorview-")) / "window.log"
        buttons.is_opening = True
        try:
            feed = LiveFeed(link, waiting="waiting for a first capture")
            buttons.window = Window(feed, log_path=log_path)
            buttons.window.start_clock()
        finally:
            buttons.is_opening = False
