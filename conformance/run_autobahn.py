"""Run the Autobahn test suite against an echo server on each pump and an echo client in each style; read its reports.

    python conformance/run_autobahn.py [--full] [--own] [--pump PUMP …] [--style STYLE …]

--full: every case on every pump and in every style; otherwise on `service` and `blocking`, and all but compression on
the others. --pump, --style: only these.
--own: our own cases (run_own.py) instead, which is also what happens where no CPython 2.7 is found.
By environment: CONFORM=full, CONFORM=own; AUTOBAHN_PYTHON names a CPython 2.7. Exit code 0: all is well.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import run_own
from suite import (
    CASES,
    LONG_GROUPS,
    PUMPS,
    SHORT_CASES,
    STYLES,
    WORK,
    Result,
    describe,
    echo_server,
    report,
    run_each,
    run_echo_client,
)

TIME_LIMIT_S = 45 * 60
SHORT_TIME_LIMIT_S = 5 * 60
START_S = 30
HOST = "127.0.0.1"
LOG = "wstest.log"

# The last virtualenv that makes environments for Python 2.7.
VIRTUALENV = "virtualenv==20.21.1"
# The suite pins an Autobahn of 2015, which needs Python 2.7; the rest is the last of its kind for that Python.
PINS = """
attrs==21.4.0 autobahn==0.10.9 autobahntestsuite==25.10.1 Automat==22.10.0 cffi==1.15.1 constantly==15.1.0
cryptography==3.3.2 enum34==1.1.10 hyperlink==21.0.0 idna==2.10 incremental==16.10.1 ipaddress==1.0.23 Jinja2==2.11.3
klein==17.10.0 linecache2==1.0.0 MarkupSafe==1.1.1 pyasn1==0.5.1 pyasn1-modules==0.3.0 pycparser==2.21
PyHamcrest==1.10.1 pyOpenSSL==19.1.0 service-identity==18.1.0 setuptools==44.0.0 six==1.16.0 traceback2==1.4.0
Twisted==19.10.0 txaio==2.1.0 typing==3.10.0.0 ujson==2.0.3 unittest2==1.1.0 Werkzeug==1.0.1 wsaccel==0.6.6
zope.interface==4.6.0
""".split()


# The environment


def find_python27() -> str | None:
    """A CPython 2.7 that runs: $AUTOBAHN_PYTHON, one on PATH, one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    own = [str(path) for path in sorted(pyenv.glob("versions/2.7*/bin/python2.7"))]
    # A name may exist and still not run: a pyenv shim without a version.
    for name in [os.environ.get("AUTOBAHN_PYTHON"), "python2.7", "python2", *own]:
        found = shutil.which(name) if name else None
        if found is None:
            continue
        ask = "import platform, sys; print(platform.python_implementation(), sys.version_info[:2], sys.executable)"
        answer = subprocess.run([found, "-c", ask], capture_output=True, text=True, timeout=60, check=False).stdout
        if match := re.match(r"\('CPython', \(2, 7\), '(.+)'\)", answer):
            return match[1]
    return None


def prepare(python27: str) -> Path:
    """Make the environment for 2.7, once; return its wstest. Raises: CalledProcessError, its output printed."""
    environment, stamp = WORK / "python27", WORK / "python27" / "ready"
    contents = "\n".join([python27, VIRTUALENV, *PINS])
    if not (stamp.exists() and stamp.read_text() == contents):
        print(f"making {environment} from {python27}, which takes a minute", flush=True)
        maker = WORK / "virtualenv"
        for old in (maker, environment):
            shutil.rmtree(old, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(maker))
        _run(str(maker / "bin" / "python"), "-m", "pip", "install", VIRTUALENV)
        _run(str(maker / "bin" / "virtualenv"), "-p", python27, str(environment))
        _run(str(environment / "bin" / "python"), "-m", "pip", "install", *PINS)
        stamp.write_text(contents)
    return environment / "bin" / "wstest"


def _run(*command: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_PYTHON_VERSION_WARNING": "1"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(command)}\n`make conform CONFORM=own` runs our own cases instead")


# A run


def try_server(wstest: Path, pump: str, full: bool) -> bool:
    """One fuzzing client against one server. Whether all is well."""
    started, folder = time.monotonic(), _empty_folder(pump)
    with (
        echo_server(pump) as port,
        wstest_process(wstest, "fuzzingclient", folder, full, servers=[{"agent": pump, "url": f"ws://{HOST}:{port}"}])
        as fuzzing,
    ):  # fmt: skip
        try:
            code = fuzzing.wait(_time_limit_s(full))
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{error}{_last_words(folder)}") from None
        if code:
            raise RuntimeError(f"wstest ended with {code}{_last_words(folder)}")
    return report(pump, read_results(folder, pump), CASES if full else SHORT_CASES, started)


def try_client(wstest: Path, style: str, full: bool) -> bool:
    """One client against one fuzzing server. Whether all is well."""
    started, folder = time.monotonic(), _empty_folder(style)
    with socket.create_server((HOST, 0)) as finder:
        server = f"{HOST}:{finder.getsockname()[1]}"  # it takes no port 0
    with wstest_process(wstest, "fuzzingserver", folder, full, url=f"ws://{server}") as fuzzing:
        _wait_until_listening(fuzzing, server, folder)
        run_echo_client(style, server, _time_limit_s(full))
    return report(style, read_results(folder, style), CASES if full else SHORT_CASES, started)


@contextlib.contextmanager
def wstest_process(
    wstest: Path, mode: str, folder: Path, full: bool, **wish: object
) -> Iterator[subprocess.Popen[bytes]]:
    """The suite, in one of its modes; it says what it says in `wstest.log` of `folder`, where its report goes, too."""
    excluded = [] if full else [f"{group}.*" for group in LONG_GROUPS]
    wish |= {"outdir": str(folder), "cases": ["*"], "exclude-cases": excluded}
    (folder / "spec.json").write_text(json.dumps(wish))
    with (
        (folder / LOG).open("wb") as log,
        subprocess.Popen(
            [str(wstest), "-m", mode, "-s", "spec.json", "-w", "0"],
            cwd=folder,  # Twisted leaves files where it runs
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _wait_until_listening(fuzzing: subprocess.Popen[bytes], server: str, folder: Path) -> None:
    host, port = server.split(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and fuzzing.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port)), START_S):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the fuzzing server did not start{_last_words(folder)}")


def _empty_folder(agent: str) -> Path:
    folder = WORK / f"autobahn-{agent}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _time_limit_s(full: bool) -> float:
    return TIME_LIMIT_S if full else SHORT_TIME_LIMIT_S


def _last_words(folder: Path) -> str:
    last = (folder / LOG).read_text(errors="replace").splitlines()[-1:]
    return f"; its last words: {' '.join(last)} (all of them: {folder / LOG})"


def read_results(folder: Path, agent: str) -> list[Result]:
    cases = json.loads((folder / "index.json").read_text()).get(agent, {})
    return [_read_result(name, case, folder) for name, case in cases.items()]


def _read_result(name: str, case: dict[str, Any], folder: Path) -> Result:
    bare = Result(name, case["behavior"], case["behaviorClose"])
    if bare.is_good:
        return bare
    details = json.loads((folder / case["reportfile"]).read_text())
    code = details["remoteCloseCode"]
    came = f"{details['result']} {details['resultClose']} Close code {code}; received {details['received']}"
    return Result(name, bare.behavior, bare.close, _plain(details["expectation"]), _plain(came))


def _plain(text: str, most: int = 400) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())[:most]


def main(full: bool, pumps: list[str], styles: list[str]) -> bool:
    python27 = find_python27()
    if python27 is None:
        print("no CPython 2.7 here, which the Autobahn test suite needs (AUTOBAHN_PYTHON names one): our own cases run")
        return run_own.main(full, pumps, styles)
    wstest = prepare(python27)
    print(f"Autobahn test suite: {describe(full)}", flush=True)
    outcomes = [run_each(partial(try_server, wstest), full, pumps), run_each(partial(try_client, wstest), full, styles)]
    return all(outcomes)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit that stops what was started
    wished = os.environ.get("CONFORM", "")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", default=wished == "full")
    parser.add_argument("--own", action="store_true", default=wished == "own")
    parser.add_argument("--pump", action="append", choices=PUMPS)
    parser.add_argument("--style", action="append", choices=STYLES)
    options = parser.parse_args()
    are_all = not options.pump and not options.style
    pumps, styles = options.pump or [*PUMPS] * are_all, options.style or [*STYLES] * are_all
    sys.exit(not (run_own.main if options.own else main)(options.full, pumps, styles))
