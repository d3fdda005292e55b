"""What a process has of its own: handlers, hooks, policies, loggers. As programs look at it, and for every home.

`snapshot()` and `signals()` are run by the programs that tests start.
"""

from __future__ import annotations

SNAPSHOT = """
import asyncio, ctypes, gc, locale, logging, os, resource, signal, sys, threading, time, warnings
from collections import Counter

def pointer(name):
    return ctypes.c_void_p.in_dll(ctypes.pythonapi, name).value

def signals():
    return {f"signal {number}": (signal.getsignal(number), action(number)) for number in signal.valid_signals()}

def action(number):
    found = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).sigaction(number, None, found)
    return found.raw[:16], found.raw[136:140]  # the function and what it blocks; the flags

def snapshot():
    found = signals()
    found["blocked signals"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for name in ("excepthook", "displayhook", "unraisablehook", "breakpointhook", "__interactivehook__", "path_hooks",
                 "meta_path", "stdin", "stdout", "stderr"):
        value = getattr(sys, name, None)
        found[f"sys.{name}"] = list(value) if isinstance(value, list) else value
    found["threading.excepthook"] = threading.excepthook
    found["sys.trace"] = sys.gettrace(), threading.gettrace(), sys.getprofile(), threading.getprofile()
    found["asyncgen hooks"] = tuple(sys.get_asyncgen_hooks())
    found["loop policy"] = asyncio.events._event_loop_policy
    found["wakeup descriptor"] = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found["wakeup descriptor"])
    for name in ("PyOS_InputHook", "PyOS_ReadlineFunctionPointer"):
        found[name] = pointer(name)
    for logger in (logging.getLogger(), *map(logging.getLogger, ("portico", "asyncio"))):
        found[f"logger {logger.name}"] = logger.level, list(logger.handlers), list(logger.filters), logger.propagate
    found["log record factory"] = logging.getLogRecordFactory()
    found["last resort"] = logging.lastResort, logging.raiseExceptions, logging.root.manager.disable
    found["warnings"] = list(warnings.filters), warnings.showwarning
    found["locale"], found["umask"], found["directory"] = locale.setlocale(locale.LC_ALL), umask(), os.getcwd()
    found["environment"], found["limits"] = dict(os.environ), resource.getrlimit(resource.RLIMIT_NOFILE)
    found["switch interval"], found["recursion limit"] = sys.getswitchinterval(), sys.getrecursionlimit()
    found["collector"] = gc.isenabled(), gc.get_threshold(), list(gc.callbacks)
    return found

def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

def descriptors():
    gc.collect()
    return sorted(filter(None, map(target, os.listdir("/proc/self/fd"))))

def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").split(":")[0]
    except OSError:  # that of the listing itself
        return ""

def more_than(listed):
    # Descriptors that are not in `listed`; some time is theirs, because the last socket closes beside us.
    deadline = time.monotonic() + 2
    while (more := list((Counter(descriptors()) - Counter(listed)).elements())) and time.monotonic() < deadline:
        pass
    return more

def thread_names():
    # One stays, asleep: it notices when nobody services.
    return sorted({thread.name for thread in threading.enumerate()} - {"portico-late"})

def compare(before, after):
    return [f"{name}: {before[name]!r} became {after[name]!r}" for name in before if before[name] != after[name]]

# Every callback looks whether the handlers are those that its home had before there was a server.
touched = []

def look():
    touched.extend(compare(handlers, signals()))

def on_ws_open(ws):
    look()
    ws.on_message(lambda binary, message: (look(), ws.send(message)) and None)

async def coroutine():
    look()
    await asyncio.sleep(0)
    look()
    return "coroutine"

APP = {"call": lambda req: look() or coroutine(), "on_ws_open": on_ws_open}
"""
