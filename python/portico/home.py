"""What one thread needs to receive callbacks: its core, its dispatcher, the pump that drives them, and its servers.

A Home is found through a `threading.local`, never by thread id, which the system uses again. It knows nothing of
routes, addresses or apps. Thread: home, except where a method says otherwise.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from portico.dispatch import Dispatcher
from portico.fork_and_exit import EXIT_S, every_home, watch_process
from portico.lateness import late_watch
from portico.pumps import blocking, prompt
from portico.pumps.descriptor import Descriptor
from portico.pumps.event_loop import EventLoopPump, as_future, running_loop
from portico.pumps.private_loop import PrivateLoop
from portico.unfinished import Future, Job

if TYPE_CHECKING:
    from portico._core import Core

T = TypeVar("T")

Callbacks: TypeAlias = Literal["auto", "loop", "prompt", "service", "thread"]

MAX_EVENTS = 256


def make_core() -> Core:
    """Build the native half. Tests put a fake here."""
    from portico._core import Core

    return Core()


class Awaited(Protocol):
    """Something that callbacks make ready."""

    is_ready: bool


class Resident(Protocol):
    """Something that lives in a Home: a server, or a client."""

    def home_ended(self, in_child: bool) -> None:
        """The core is gone; no more events will come. `in_child`: gone only in this process, which is a fork."""


class Home:
    """One per thread. Owns everything that thread's callbacks need; lives as long as the thread or its servers."""

    has_own_thread = False

    def __init__(self, thread: threading.Thread | None = None, core: Core | None = None) -> None:
        self.thread = thread or threading.current_thread()
        if sys.is_finalizing():
            # Some Pythons would wait for ever for a thread that can't begin any more.
            raise RuntimeError("no server can start while the interpreter shuts down")
        self.core = make_core() if core is None else core
        self.residents: dict[int, Resident] = {}
        self.dispatcher = Dispatcher(self.core, self.spawn, self.defer)
        self.is_alive = True
        self.is_busy = False  # a callback, or the private loop, is running
        self._choice: Callbacks = "auto"
        self._pump: EventLoopPump | None = None
        self._prompt: prompt.PromptPump | None = None  # runs callbacks whenever no loop does
        self._private = PrivateLoop()
        self._descriptor: Descriptor | None = None  # made when somebody else's loop watches this home
        self._deferred: deque[Job] = deque()
        self._submitted: deque[tuple[Callable[[], Any], concurrent.futures.Future[Any]]] = deque()
        self._serving = 0  # how many `serve` and `service` calls are under way; `interrupt` looks for them
        self._interrupted = False
        self._is_woken = False
        self._is_watched = False  # whether somebody notices that nobody services
        self.is_exiting = False  # the process is, and takes this home with it
        self._gates: set[threading.Event] = set()
        watch_process(self)

    def __repr__(self) -> str:
        return f"<Home of thread {self.thread.name!r}>"

    # Whose turn it is

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is this Home's, or inherits it because that thread has ended. Any thread."""
        here = threading.current_thread()
        if self.thread is not here and not self.thread.is_alive():
            self.thread = here  # adopted: somebody has to run what is left
            if getattr(_local, "home", None) is None:
                _local.home = self
        return self.thread is here

    def choose(self, callbacks: Callbacks) -> None:
        """Settle where callbacks run. Raises: ValueError if that conflicts with a live pump; RuntimeError."""
        if callbacks not in get_args(Callbacks):
            names = ", ".join(map(repr, get_args(Callbacks)))
            raise ValueError(f"callbacks must be one of {names}; got {callbacks!r}")
        if callbacks == "auto":
            return
        if callbacks == "loop" and running_loop() is None:
            raise RuntimeError("callbacks='loop' needs an asyncio loop that runs in this thread; none does")
        if callbacks == "prompt" and (reason := prompt.refusal()) is not None:
            raise RuntimeError(f"callbacks='prompt' needs an interactive prompt on a terminal, but {reason}")
        current = self._current_choice()
        if self._prompt is not None and callbacks == "loop":
            return  # while the loop runs, it serves everybody; then the prompt does again
        if self.residents and current not in ("auto", callbacks):
            raise ValueError(f"callbacks={callbacks!r}: this thread's servers already use {current!r}")
        self._choice = callbacks

    def _current_choice(self) -> Callbacks:
        if self._prompt is not None:
            return "prompt"
        return "loop" if self._pump is not None and not self._pump.loop.is_closed() else self._choice

    @property
    def is_served(self) -> bool:
        """Whether callbacks run although nobody calls `service` or `serve`. Any thread."""
        has_loop = self._pump is not None and self._pump.loop.is_running()
        return has_loop or self._prompt is not None or self._choice == "thread"

    def touch(self) -> None:
        """Let the loop that runs in this thread, if any, serve this Home from now on. Any thread; elsewhere a no-op."""
        if self.is_busy or not self.is_alive or self.thread is not threading.current_thread():
            return
        loop = running_loop()
        pump = self._pump
        if pump is not None:
            if pump.loop is loop:
                return
            if loop is not None or pump.loop.is_closed():
                pump.close()
                self._pump = None
            if pump.loop.is_closed():
                self.dispatcher.abandon(pump.loop)
        if loop is not None and loop is not self._private.loop and self._choice != "service" and self.residents:
            self._pump = EventLoopPump(loop, self)

    def end_with_the_process(self) -> None:
        """End this thread, if its home was closed because the process exits. Raises: SystemExit.

        Only daemon threads are left then. They are about to be frozen anyway, and an error that says so would be a
        traceback from nowhere.
        """
        if self.is_exiting and not self.is_alive and threading.current_thread() is not threading.main_thread():
            raise SystemExit

    # Running callbacks

    def fileno(self) -> int:
        """A descriptor that is readable when there are events. Any thread."""
        return self.core.fileno()

    def watched_fileno(self) -> int:
        """The same for a loop that isn't ours: also readable when coroutine handlers can go on."""
        if self._descriptor is None:
            self._descriptor = Descriptor(self.core.fileno())
            if self._private.is_needed:
                self._descriptor.arm(self._private.fileno(), 0)
        return self._descriptor.fileno()

    def service(self, timeout: float | None) -> int:
        """Run callbacks until some ran or time is up; return how many. Raises: RuntimeError if it is not our turn."""
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds, at least 0, or None; got {timeout!r}")
        self.require_turn("service()")
        self.touch()
        self._serving += 1
        try:
            return blocking.service(self, timeout, self._is_interrupted)
        except RuntimeError:
            self.end_with_the_process()
            raise
        finally:
            self._serving -= 1
            self._interrupted = False

    def serve(self, is_over: Callable[[], bool]) -> None:
        """Run callbacks until `is_over()` or `interrupt()`."""
        self.require_turn("serve()")
        self._serving += 1
        try:
            blocking.serve(self, lambda: is_over() or self._interrupted or not self.is_alive)
        finally:
            self._serving -= 1
            self._interrupted = False

    def run_until(self, is_over: Callable[[], bool], timeout: float | None = None, what: str = "wait_closed()") -> bool:
        """Run callbacks until `is_over()`, whatever `interrupt()` says; False if `timeout` seconds passed first.

        `what` is called so in the RuntimeError that says why this is not the time or the thread for it.
        """
        self.require_turn(what)
        return blocking.serve(self, lambda: is_over() or not self.is_alive, timeout)

    def wait_for(self, awaited: Awaited, timeout: float | None, what: str) -> bool:
        """`run_until` for what is waited for once per message: until `awaited.is_ready`, or this home has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not awaited.is_ready:
            self.require_turn(what)
            self.turn(timeout)
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    break
        return awaited.is_ready

    def interrupt(self) -> bool:
        """End the `serve` or `service` that this Home is in; False if it is in none. Any thread."""
        gates = list(self._gates)
        for gate in gates:
            gate.set()
        if self._serving:
            self._interrupted = True
            self.wake()
        return bool(self._serving or gates)

    def wake(self) -> None:
        """End the turn that waits, or the next one. Any thread."""
        self._is_woken = True
        self.core.wake()

    def wait_elsewhere(self, gate: threading.Event) -> None:
        """What `serve` does on another thread than this Home's: wait for `gate`, which `interrupt` sets. Any thread."""
        self._gates.add(gate)
        try:
            gate.wait()
        finally:
            self._gates.discard(gate)

    def turn(self, timeout: float | None) -> int:
        """Take one batch, waiting at most `timeout` seconds, and run its callbacks; return how many ran.

        For pumps, which have made sure that it is our turn.
        """
        try:
            if self._private.is_needed and running_loop() is None:
                ran = self._run_beside_coroutines(timeout)
            else:
                ran = self._run_batch(timeout)
            while self._submitted:
                self._perform_submitted()
        finally:
            if self._descriptor is not None and self._descriptor.is_muted:
                self._descriptor.unmute()
                if self._private.is_needed:
                    self._descriptor.arm(self._private.fileno(), 0)
        if self._descriptor is not None:
            self._arm(self._descriptor)
        return ran

    def expects_answer(self) -> bool:
        """Whether a client has just said something to which the answer is about to come."""
        return self.core.expects_answer()

    def _arm(self, descriptor: Descriptor) -> None:
        """Say when the coroutines need the next turn. In a running loop they can't get one."""
        if not self._private.is_needed or running_loop() is not None:
            descriptor.disarm()
            return
        descriptor.arm(self._private.fileno(), 0)  # for when the next line raises
        descriptor.arm(self._private.fileno(), self._run_private(self._private.patience_s))

    def _run_batch(self, timeout: float | None) -> int:
        # Busy while it waits, too: signal handlers run there, and what they call must not wait again. The batch is
        # never bound to a name here: see Dispatcher.run.
        self.is_busy = True
        try:
            ran = self.dispatcher.run(self.core.take(MAX_EVENTS, timeout))
        finally:
            self.is_busy = False
        if self._deferred and running_loop() is None:
            self._settle()
        return ran

    def _run_beside_coroutines(self, timeout: float | None) -> int:
        """A batch for a thread whose coroutine handlers wait: whatever comes first, theirs or ours."""
        self._run_private(self._private.step)
        self._settle()
        ran = self._run_batch(0) + self._private.take_finished()
        if ran or timeout == 0 or self._is_woken:  # that batch may have used up the core's own wake
            self._is_woken = False
            return ran
        self._run_private(lambda: self._private.wait(self.fileno(), timeout))
        self._settle()
        self._is_woken = False
        return self._run_batch(0) + self._private.take_finished()

    def _settle(self) -> None:
        """Run the deferred jobs; everything that was spawned before them gets its first step first."""
        while self._deferred:
            self._run_private(self._private.step)
            for _ in range(len(self._deferred)):
                self._run_deferred()

    def _run_private(self, run: Callable[[], T]) -> T:
        self.is_busy = True
        try:
            return run()
        finally:
            self.is_busy = False

    def _run_deferred(self) -> None:
        if not self._deferred:
            return
        was_busy, self.is_busy = self.is_busy, True
        try:
            self._deferred.popleft()()
        finally:
            self.is_busy = was_busy

    def _is_interrupted(self) -> bool:
        return self._interrupted

    def require_turn(self, what: str) -> None:
        """Refuse to run callbacks on another thread than this home's, and inside one. Raises: RuntimeError."""
        if not self.is_alive:
            self.end_with_the_process()
            raise RuntimeError(f"{what}: this home has ended, with its last server, its process, or in a fork")
        if not self.is_here:
            raise RuntimeError(
                f"{what} was called on thread {threading.current_thread().name!r}, but the callbacks belong to "
                f"thread {self.thread.name!r}; call it there, or start the server with callbacks='thread'"
            )
        if self.is_busy:
            if self._descriptor is not None:
                # A callback that opens a dialog runs the GUI's loop inside itself, and that would call again and again.
                self._descriptor.mute()
            raise RuntimeError(f"{what} was called inside a callback; callbacks do not nest, so return instead")

    # What the dispatcher asks for

    def spawn(self, awaitable: object) -> Future:
        """Start an awaitable on this thread's running loop, or on the private one."""
        loop = running_loop()
        if loop is None or loop is self._private.loop:
            future = self._private.spawn(awaitable)
            if self._descriptor is not None:
                self._descriptor.arm(self._private.fileno(), 0)
            return future
        return as_future(awaitable, loop)

    def defer(self, job: Job) -> None:
        """Run `job` soon, outside any coroutine, once everything spawned so far has taken its first step."""
        self._deferred.append(job)
        loop = running_loop()
        if loop is None:
            return
        if loop is self._private.loop:
            loop.stop()
        else:
            # One call per job, not one for all: tasks start in call_soon order, and a job must not overtake
            # those that were spawned between two jobs.
            loop.call_soon(self._run_deferred)

    # Residents

    def settle_in(self, number: int, resident: Resident) -> None:
        """A server has started."""
        self.residents[number] = resident
        if not self.dispatcher.was_late and not self._is_watched and self._choice != "thread":
            self._is_watched = True
            late_watch.watch(self.core, self.dispatcher.warn_late)
        if self._pump is not None and self._pump.loop is running_loop():
            self._pump.renew()
        if self._prompt is None and (self._choice == "prompt" or (self._choice == "auto" and _is_at_prompt())):
            self._prompt = prompt.open_prompt(self)

    def move_out(self, number: int) -> None:
        """A server's last connection has ended."""
        self.residents.pop(number, None)
        if self.residents:
            return
        self._forget_lateness()
        self._leave_prompt()
        if self._pump is not None:
            self._pump.close()
            self._pump = None
        if self._choice != "thread":
            self._choice = "auto"
            if not self._private.is_pending:
                self._close_private()

    def _leave_prompt(self) -> None:
        pump, self._prompt = self._prompt, None
        if pump is not None:
            pump.close()

    def perform(self, job: Callable[[], T]) -> T:
        """Run `job` on the home thread and return its result. Any thread."""
        if self.thread is threading.current_thread():
            return job()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._submitted.append((job, future))
        if self.is_alive:
            self.wake()
        else:
            self._refuse_submitted()  # `close` may have looked before it was there
        try:
            return future.result()
        except RuntimeError:
            self.end_with_the_process()
            raise

    def _perform_submitted(self) -> None:
        job, future = self._submitted.popleft()
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)

    # The end

    def leave(self) -> None:
        """Ask this home's own thread to end, if it has one. Any thread."""

    def close(self) -> None:
        """Cut every connection and give everything back. Idempotent."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._forget_lateness()
        self._leave_prompt()
        if self._pump is not None:
            self._pump.close()
        if self.thread is threading.current_thread() and running_loop() is None:
            self._close_private()
        if self._descriptor is not None:
            self._descriptor.close()
            self._descriptor = None
        self.dispatcher.log_rest(self.core.shutdown(), EXIT_S)
        self._refuse_submitted()
        self._evict(in_child=False)

    def _refuse_submitted(self) -> None:
        with contextlib.suppress(IndexError):  # until it is empty; two threads may do this together
            while True:
                self._submitted.popleft()[1].set_exception(RuntimeError(f"{self!r} has ended"))

    def _close_private(self) -> None:
        if self._descriptor is not None:
            self._descriptor.disarm()
        self._private.close()

    def die_in_child(self) -> None:
        """After a fork, in the child: nothing here works any more, and nobody is told."""
        self.is_alive = False
        self.is_busy = False
        self._is_watched = False
        if self._prompt is not None:
            self._prompt.abandon()
            self._prompt = None
        # Loops share their epoll with the parent: closing one here would unregister the parent's descriptors there.
        _leaked.append(self._private)
        self._private = PrivateLoop()
        if self._descriptor is not None:
            self._descriptor.close()
            self._descriptor = None
        if self._pump is not None:
            self._pump.abandon()
            self._pump = None
        self._deferred.clear()
        self.core.after_fork_in_child()
        self._evict(in_child=True)

    def _forget_lateness(self) -> None:
        if self._is_watched:
            self._is_watched = False
            late_watch.forget(self.core)

    def _evict(self, in_child: bool) -> None:
        residents = list(self.residents.values())
        self.residents.clear()
        for resident in residents:
            resident.home_ended(in_child)


class ThreadHome(Home):
    """`callbacks="thread"`: a Home on a daemon thread of its own, which ends with its last server."""

    has_own_thread = True

    def __init__(self) -> None:
        super().__init__(threading.Thread(target=self._live, name="portico", daemon=True))
        self._choice = "thread"
        self._is_ending = False
        self.thread.start()

    def leave(self) -> None:
        self._is_ending = True
        self.wake()

    def move_out(self, number: int) -> None:
        super().move_out(number)
        self._is_ending = not self.residents

    def _live(self) -> None:
        _local.home = self
        try:
            while not self._is_ending and self.is_alive:
                self.turn(None)
        finally:
            self.close()
            # The dispatcher and this home hold each other; the core's descriptors should not wait for the collector.
            self.dispatcher.close()
            del self.dispatcher


def _is_at_prompt() -> bool:
    return prompt.refusal() is None and prompt.is_interactive()


# Finding homes

_local = threading.local()
_leaked: list[PrivateLoop] = []


def current_home() -> Home:
    """This thread's Home, made now if there is none. Raises: OSError if descriptors run out."""
    home: Home | None = getattr(_local, "home", None)
    if home is None or not home.is_alive:
        home = _local.home = Home()
    return home


def can_wait() -> bool:
    """Whether this thread is outside callbacks and loops, and may wait for either."""
    home: Home | None = getattr(_local, "home", None)
    return running_loop() is None and not (home is not None and home.is_busy)


@contextlib.contextmanager
def lend_core(core: Core) -> Iterator[Home]:
    """While it lasts, this thread's Home is a new one that has this core, which need not be a native one."""
    before = getattr(_local, "home", None)
    home = _local.home = Home(core=core)
    try:
        yield home
    finally:
        home.close()
        _local.home = before


def require_idle(what: str, instead: str) -> None:
    """Refuse what would block this thread's running loop, or a callback for ever. Raises: RuntimeError."""
    if running_loop() is not None:
        raise RuntimeError(f"{what} would block the running event loop; use: {instead}")
    home: Home | None = getattr(_local, "home", None)
    if home is not None and home.is_busy:
        raise RuntimeError(f"{what} was called inside a callback; callbacks do not nest, so return instead")


def interrupt() -> None:
    """Make `serve()`, `run_server()` or `service()` return: this thread's if it is in one, otherwise every thread's."""
    home: Home | None = getattr(_local, "home", None)
    if home is None or not home.interrupt():
        for other in every_home():
            other.interrupt()
