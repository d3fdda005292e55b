"""Every Python example in README.md runs as it is written, but for its port; then it answers a client."""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ctrl_c import end_by_ctrl_c

README = Path(__file__).resolve().parent.parent / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
DEADLINE_S = 15

# Runs an example with its port changed, tells the address, and keeps going as a reader's session would.
RUNNER = """
import sys
import portico

start = portico.start_server
def start_and_tell(host, port, *rest, **options):
    server = start(host, 0, *rest, **options)
    print(server.url, flush=True)
    return server
portico.start_server = start_and_tell

make = portico.http_server
def make_and_tell(url, *rest, **options):
    server = make("http://127.0.0.1:0", *rest, **options).start()
    print(server.url, flush=True)
    return server
portico.http_server = make_and_tell
source = sys.stdin.read()
names = {"__name__": "__main__"}
try:
    exec(compile(source, "README.md", "exec"), names)
    server = names["server"]
    while server.is_running:
        portico.service(0.2)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_answers(example: str) -> None:
    # A thread's example goes on to stop its server; the client comes before that.
    example = example.replace("server.stop()", "import threading; threading.Event().wait()")
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdin and process.stdout
        process.stdin.write(example)
        process.stdin.close()
        process.stdin = None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.communicate(timeout=DEADLINE_S)[1]
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            assert answer.status == 200
            assert answer.read()
        end_by_ctrl_c(process)
    finally:
        process.kill()
        process.wait()


def test_readme_is_short() -> None:
    assert EXAMPLES
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
