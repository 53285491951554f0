"""`Watcher`: when to capture, and everything's life from the first step to the last."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from tensorview import capture
from tensorview.budget import Budget
from tensorview.capture.stand_in import stand_in_for
from tensorview.capture.uncompiled import uncompiled
from tensorview.captures import Captures
from tensorview.flag_report import FlagReport
from tensorview.guard import Guard
from tensorview.launch import hold_standard_streams
from tensorview.memory import Memory
from tensorview.open_watchers import close_former, enter, live_target
from tensorview.outputs import Outputs, find_live, open_run
from tensorview.pruning.pruner import Pruner
from tensorview.status import Status
from tensorview.steering.effects import Controls, Effects
from tensorview.steering.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from tensorview.pruning.plan import Plan
    from tensorview.run import Run
    from tensorview.run_lock import RunLock
    from tensorview.settings import Settings
    from tensorview.snapshot import Snapshot


class Watcher:
    """Captures one model's training. Made by `tensorview.watch`.

    Holds model and optimizer weakly: they live as long as they would without us.

    Attributes:
        settings: the keywords of `tensorview.watch`.
        active: whether this process captures; in distributed training the first one does.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], *, settings: Settings
    ) -> None:
        self.settings = settings
        optimizer = optimizers[0] if optimizers else None
        eager = capture.unwrap(model)
        self._pid = os.getpid()
        self._first = self._step = settings.start_step or 0
        self._started = 0.0
        self._closed = False
        self._guard = Guard(strict=settings.strict)
        self._reduced: tuple[str, ...] = ()
        self._capturer = capture.Capturer(stand_in_for(eager), settings=settings)
        self._memory = Memory(self._capturer.layers, settings=settings.apart)
        self._flag_report = FlagReport(settings.on_flag, guard=self._guard)
        self._controls = Controls(every=settings.every)
        self._budget = Budget(settings.budget, controls=self._controls)
        self._captures = Captures(
            self._capturer, memory=self._memory, controls=self._controls, publish=self._publish
        )
        self._pruner = Pruner(
            weakref.ref(eager),
            self._captures,
            self._capturer,
            optimizers=[weakref.ref(each) for each in optimizers],
            settings=settings,
            is_alone=capture.is_only_rank() and not capture.is_wrapped(model),
            guard=self._guard,
        )
        self._effects = Effects(
            self._controls,
            filters=self._captures.filters,
            optimizer=optimizer,
            is_alone=capture.is_only_rank(),
            capture=lambda again: self._captures.take_on_request(self._step, again=again),
            prune=self._prune_on_request,
        )
        self._run: Run | None = None
        self._lock: RunLock | None = None
        self._outputs: Outputs | None = None
        self._listener: Listener | None = None
        self._cleanup = contextlib.ExitStack()
        self.active = capture.is_first_rank()
        close_former(eager)
        if self.active:
            try:
                self._attach(model, optimizer)
                self._open_outputs(self._capturer.describe())
            except BaseException:
                self._closed = True
                self._cleanup.close()
                self._unlock()
                raise

    def _open_outputs(self, description: dict[str, Any]) -> None:
        hold_standard_streams()
        live = live_target(self)
        # Before anything is written.
        paraview = find_live(live, pipeline=self.settings.pipeline)
        opened = open_run(self.settings, description) if self.settings.formats else None
        if opened is not None:
            self._run, self._lock = opened
            self._memory.count_from(self._run.next_capture)
            self._pruner.run_path = self._run.path
            self._listener = listener = Listener(
                self._run,
                allow=self.settings.allow,
                controls=self._controls,
                effects=self._effects,
                guard=self._guard,
            )
            self._cleanup.callback(lambda: listener.close(self._step))
        self._outputs = Outputs(
            run_path=self._run.path if self._run else None,
            run_id=self._run.id if self._run else "",
            formats=self.settings.formats,
            keep=self.settings.keep,
            lock=self._lock,
            live=live,
            pipeline=self.settings.pipeline,
            paraview=paraview,
        )

    @property
    def may_show_live(self) -> bool:
        """Whether a live viewer is, or may come to be, shown this model."""
        return self._outputs is not None and self._outputs.live is not None

    @property
    def shows_live(self) -> bool:
        """Whether there is a live worker for this model."""
        return self._outputs is not None and "live" in self._outputs.workers

    def _attach(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        eager = capture.unwrap(model)
        if optimizer is not None:
            before = optimizer.register_step_pre_hook(uncompiled(self._before_step))
            after = optimizer.register_step_post_hook(uncompiled(self._after_step))
            self._cleanup.callback(before.remove)
            self._cleanup.callback(after.remove)
        for owner in filter(None, (eager, optimizer)):
            end = weakref.finalize(owner, self.close)
            end.atexit = False  # `_close_all` does that
            self._cleanup.callback(end.detach)
        self._cleanup.callback(self._capturer.detach)
        self._capturer.wait_for_probe(model)
        self._cleanup.callback(enter(eager, self))

    def step(self) -> None:
        """Count one step; for trainings without a `torch.optim.Optimizer`."""
        self._after_step()

    def log(self, **scalars: float | Tensor) -> None:
        """Attach numbers to the next capture. Tensors are read only then."""
        for name, value in scalars.items():
            self._captures.logged.add(name, value)

    def focus(self, layer: str | None) -> None:
        """Show *layer* alone and as fully as can be, None for all, from the next step on.

        Raises:
            ConfigurationError: there is no such layer.
        """
        self._effects.set_focus(layer)
        # The next step's training batch may have passed already.
        with_batches = self.settings.activations == "batch"
        self._controls.capture_at = self._step + (2 if with_batches else 1)

    def redundant(
        self,
        layer: str | None = None,
        *,
        threshold: float | None = 0.9,
        count: int | None = None,
        filters: Sequence[int] | None = None,
        mode: str = "merge",
        probe: Any = None,
    ) -> Plan:
        """Say which filters do the same work, and what removing them would cost.

        Nothing is changed. Dead filters are flagged, all but one of each group whose activations
        correlate, and duplicates; each is measured dropped and merged, by *evaluate* of
        `tensorview.watch`, else by how much the model's outputs on the probe change.

        Args:
            layer: name of one watched layer, None for all that can be pruned.
            threshold: Pearson r from which two filters belong to one group, above 0, at most 1.
                None: any filter may go, the least missed ones first; then give *count*.
            count: at most so many of a layer go, the least missed of those flagged; None for all.
            filters: of *layer*, exactly these go.
            mode: ``"merge"``: what a removed filter did is taken over by all that stay, by least
                squares over the probe, unless that is measured to be worse than to drop it.
                ``"drop"``: its kernels are left out.
            probe: what to judge by, as for `tensorview.watch`; None for the probe of that. Filters
                are taken for dead on 256 samples or more.

        Raises:
            ConfigurationError: an argument that cannot be used.
            PruningError: *layer* cannot be pruned, the probe or *evaluate* fails.
        """
        return self._pruner.redundant(
            layer, threshold=threshold, count=count, filters=filters, mode=mode, probe=probe
        )

    def prune(self, plan: Plan) -> Plan:
        """Remove the filters that *plan* names, in the midst of training.

        Call it between an optimizer's ``step()`` and the next forward pass. Parameters stay the
        objects that they are, and optimizers keep the state of what stays. A capture shows the
        smaller model, and ``pruning.jsonl`` in the run directory gets a line a layer.

        Args:
            plan: of `redundant`. Where training has gone on since, what each filter's part is and
                what its removal costs is measured anew; which filters go stays.

        Returns:
            The plan as it was done.

        Raises:
            PruningError: *plan* does not fit the model, or it trains in more than one process;
                nothing was changed.
        """
        return self._pruner.prune(plan, step=self._step, origin="python")

    @property
    def should_stop(self) -> bool:
        """Whether a command asked for the end of the training; obeying is the user's loop's."""
        return self._controls.should_stop

    @property
    def selected(self) -> dict[str, tuple[int, ...]]:
        """Filters that were picked in a client, by layer."""
        return dict(self._controls.selected)

    def snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, None before the first capture."""
        return self._captures.newest

    def status(self) -> Status:
        """Say what was done so far."""
        if self._outputs and not self._closed and self._pid == os.getpid():
            self._outputs.poll()
        sinks = self._outputs.status() if self._outputs else {}
        wall = self._wall()
        state = "closed" if self._closed else "running"
        if self._listener is not None and self._listener.paused:
            state = "paused"
        return Status(
            step=self._step,
            state=state,
            every=self._controls.interval,
            asked_every=self._controls.every,
            budget=self.settings.budget,
            focus=self._controls.focus,
            should_stop=self._controls.should_stop,
            captures=self._captures.count,
            dropped=sum(sink.dropped for sink in sinks.values()),
            reduced=self._reduced if self._closed else self._capturer.reduced,
            flags=self._memory.health.flags,
            sinks=sinks,
            faults=sum(self._guard.faults.values()),
            last_fault=next(reversed(self._guard.faults), ""),
            cost=self._guard.seconds / wall if wall > 0.0 else 0.0,
            run_dir=self._run.path if self._run else None,
            pruned=self._pruner.pruned,
        )

    def close(self) -> None:
        """Capture the last step if it was not, write what is on its way, leave nothing behind.

        Takes up to 5 s, longer only while files are being written; Ctrl-C gives up.
        """
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        with contextlib.ExitStack() as ends:  # one given up by Ctrl-C does not spare the others
            ends.callback(self._unlock)
            if self._outputs is not None:
                close = partial(self._guard.do, self._outputs.close, interruptible=True)
                ends.callback(close, step=self._step, what="the end of the workers")
            ends.callback(self._let_go)
            ends.callback(self._cleanup.close)
            self._capture_last()
        self._tell_flags()
        self.settings = self.settings.apart

    def begin_close(self) -> None:
        """Capture the last step if it was not, and ask the workers to end; `close` waits for it."""
        if not self._closed and self._pid == os.getpid():
            self._capture_last()
            if self._outputs is not None:
                self._guard.do(self._outputs.end, step=self._step, what="the end of the workers")

    def _capture_last(self) -> None:
        if self._step > self._first and self._captures.last_step != self._step:
            self._guard.do(self._capture, step=self._step)
        self._guard.do(self._captures.wait, step=self._step)

    def _let_go(self) -> None:
        """Hold the model's parameters no more, which nobody may need any more."""
        self._reduced = self._capturer.reduced
        self._captures.let_go()
        self._pruner.let_go()
        del self._capturer

    def __enter__(self) -> Watcher:  # noqa: PYI034  # typing.Self needs Python 3.11
        """Return itself; the end of the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whatever the block raised."""
        self.close()

    def _is_due(self, step: int) -> bool:
        controls = self._controls
        return (
            step == self._first + 1
            or step % controls.interval == 0
            or step in (controls.capture_at, controls.break_at)
        )

    def _before_step(self) -> None:
        step = self._step + 1
        if not self._closed and self._is_due(step):
            self._guard.do(lambda: self._captures.sketch_weights(step), step=step)

    def _after_step(self) -> None:
        if self._closed or not self.active or self._pid != os.getpid():
            return
        self._step += 1
        if self._started == 0.0:
            self._started = time.perf_counter()
        if self._captures.pending is not None:
            self._do(self._captures.finish_if_ready)
        if self._outputs is not None and self._outputs.are_due:
            self._do(self._outputs.look_after)
        due = self._is_due(self._step)
        if self._listener is not None and self._listener.is_due(self._step):
            self._listener.look(self._step, idle=self._idle)
        policy = self.settings.prune
        if policy is not None and self._step in policy.at:
            follow = partial(self._pruner.follow_policy, self._step)
            self._do(follow, what="pruning", interruptible=True)
        if due and self._captures.last_step != self._step:
            self._do(self._capture)
            self._budget.after_capture(self._step, ours=self._guard.seconds, wall=self._wall())
        if self.settings.activations == "batch" and self._is_due(self._step + 1):
            self._do(self._captures.attach_to_batch)
        # Last, because the user's function may close this.
        self._tell_flags()

    def _do(self, action: Callable[[], object], **about: Any) -> None:
        """Do *action*, unless a signal handler or a command has closed this in the same step."""
        if not self._closed:
            self._guard.do(action, step=self._step, **about)

    def _tell_flags(self) -> None:
        flags = self._memory.health.take_new()
        if flags:
            tell = partial(self._flag_report.tell, flags)
            self._guard.do(tell, step=self._step, what="telling of flags", interruptible=True)

    def _wall(self) -> float:
        """Seconds since the first step, pauses left out."""
        paused = self._listener.paused_seconds if self._listener is not None else 0.0
        return time.perf_counter() - self._started - paused if self._started else 0.0

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _capture(self) -> None:
        self._captures.take(self._step)

    def _prune_on_request(self, layer: str, filters: Sequence[int] | None) -> str:
        shown = self.settings.threshold  # what the picture's groups are made by
        threshold = shown if 0.0 < shown <= 1.0 else 0.9
        plan = self._pruner.redundant(layer, filters=filters, threshold=threshold)
        if not plan.removed:
            return f"Nothing of {layer} is redundant."
        done = self._pruner.prune(plan, step=self._step, origin="command")
        return (
            f"{layer} has {self._captures.filters[layer]} filters now; {done.measure} "
            f"{done.before:.4g} -> {done.after:.4g}."
        )

    def _idle(self) -> None:
        """While training is paused: show where it stands, and serve who looks at it."""
        if self._captures.last_step != self._step and not self._capturer.lacks_batch:
            self._capture()
        self._captures.finish_if_ready()
        if self._outputs is not None:
            self._outputs.idle(self._captures.newest)

    def _publish(self, snapshot: Snapshot) -> None:
        if self._outputs is not None:
            self._outputs.publish(snapshot)
