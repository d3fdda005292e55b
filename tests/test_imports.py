"""Imports point one way. A failure here names an arrow that points backwards.

Beside them: what no file may call, whatever it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import portico
import portico.testing

ROOT = Path(__file__).resolve().parent.parent / "python" / "portico"

# What each layer may import of ours; whatever runs at import time counts, type-only imports do not.
VALUES = {
    "portico.headers",
    "portico.body",
    "portico.forms",
    "portico.proxies",
    "portico.tls",
    "portico.origin",
    "portico.routes",
    "portico.cors",
    "portico.request",
    "portico.response_fields",
    "portico.response",
    "portico.answer",
    "portico.static_paths",
}
PUMPS = {
    "portico.pumps",
    "portico.pumps.blocking",
    "portico.pumps.ctrl_c",
    "portico.pumps.descriptor",
    "portico.pumps.event_loop",
    "portico.pumps.guests",
    "portico.pumps.input_hook",
    "portico.pumps.ipython_prompt",
    "portico.pumps.line_editor",
    "portico.pumps.private_loop",
    "portico.pumps.prompt",
    "portico.pumps.pyrepl",
}
SERVER = VALUES | {"portico.access_log", "portico.websocket_connection", "portico.home", "portico.server"}
CLIENT = {"portico.client", "portico.ws_url", "portico.request_header"}
API = {
    "portico.path_pattern",
    "portico.path_table",
    "portico.chain",
    "portico.events",
    "portico.executors",
    "portico.message_chains",
    "portico.request_chains",
}
ALLOWED = {
    "portico.headers": set(),
    "portico.routes": {"portico.origin"},
    "portico.parameters": set(),
    "portico.origin": set(),
    "portico.cors": {"portico.origin", "portico.routes"},
    "portico.proxies": set(),
    "portico.access_log": {"portico.headers"},
    "portico.tls": {"portico._core"},
    "portico.body": {"portico.pull"},
    "portico.forms": {"portico.body", "portico.headers", "portico.parameters"},
    "portico.request": {
        "portico.body",
        "portico.headers",
        "portico.forms",
        "portico.parameters",
        "portico.proxies",
        "portico.tls",
    },
    "portico.set_cookie": {"portico.routes"},
    "portico.request_header": {"portico.forms", "portico.request"},
    "portico.response_fields": {"portico.headers", "portico.routes"},
    "portico.response": {"portico.response_fields", "portico.routes", "portico.set_cookie"},
    "portico.answer": {"portico.response", "portico.response_fields"},
    "portico.static_paths": {"portico.response_fields", "portico.routes", "portico._core"},
    "portico.notebook": set(),
    "portico.pull": set(),
    "portico.lateness": set(),
    "portico.websocket_connection": VALUES | {"portico.pull"},
    "portico.stream": {"portico.pull", "portico.report", "portico.answer", "portico.response_fields", "portico._core"},
    "portico.stream_connection": {
        "portico.pull",
        "portico.response_fields",
        "portico.routes",
        "portico.websocket_connection",
        "portico._core",
    },
    "portico.site": set(),
    "portico.report": {"portico.body"},
    "portico.unfinished": {"portico.response"},
    "portico.opening": {"portico.pull"},
    "portico.http_dispatch": VALUES
    | {
        "portico.pull",
        "portico.report",
        "portico.stream",
        "portico.stream_connection",
        "portico.unfinished",
    },
    "portico.websocket_dispatch": {
        "portico.opening",
        "portico.pull",
        "portico.report",
        "portico.unfinished",
        "portico.websocket_connection",
        "portico._core",
    },
    "portico.dispatch": {
        "portico.http_dispatch",
        "portico.lateness",
        "portico.unfinished",
        "portico.websocket_dispatch",
        "portico._core",
    },
    "portico.fork_and_exit": {"portico.lateness"},
    "portico.home": {
        "portico.dispatch",
        "portico.fork_and_exit",
        "portico.lateness",
        "portico.unfinished",
        "portico._core",
    }
    | PUMPS,
    "portico.address": set(),
    "portico.specs": {"portico._core"},
    "portico.served": {"portico.routes", "portico.specs", "portico.static_paths"},
    "portico.live_static_paths": {"portico.static_paths"},
    "portico.server": {
        "portico.access_log",
        "portico.address",
        "portico.cors",
        "portico.home",
        "portico.live_static_paths",
        "portico.notebook",
        "portico.origin",
        "portico.proxies",
        "portico.pumps.event_loop",
        "portico.routes",
        "portico.served",
        "portico.site",
        "portico.specs",
        "portico.static_paths",
        "portico.tls",
        "portico.websocket_connection",
    },
    "portico.ws_url": set(),
    "portico.name_lookup": {"portico.ws_url"},
    "portico.call": {"portico.headers", "portico._core"},
    "portico.client": {
        "portico.call",
        "portico.headers",
        "portico.home",
        "portico.name_lookup",
        "portico.pull",
        "portico.pumps.event_loop",
        "portico.response_fields",
        "portico.routes",
        "portico.specs",
        "portico.tls",
        "portico.websocket_connection",
        "portico.ws_url",
    },
    "portico.reconnecting": {"portico.call", "portico.client", "portico.home"},
    "portico.path_pattern": {"portico.parameters"},
    "portico.path_table": {"portico.forms", "portico.path_pattern", "portico.response"},
    "portico.by_name": set(),
    "portico.executors": set(),
    "portico.chain": {"portico.by_name", "portico.executors", "portico.unfinished"},
    "portico.events": {"portico.by_name"},
    "portico.message_chains": {"portico.chain", "portico.events", "portico.path_pattern", "portico.unfinished"},
    "portico.request_chains": {
        "portico.chain",
        "portico.events",
        "portico.path_pattern",
        "portico.path_table",
        "portico.response",
        "portico.unfinished",
    },
    "portico.comment_tags": set(),
    "portico.doors.annotations": {"portico.comment_tags"},
    "portico.doors.api": SERVER | API | {"portico.doors.annotations"},
    "portico.testing": {
        "portico.testing.answer",
        "portico.testing.client",
        "portico.testing.fake_core",
        "portico.testing.socket",
    },
    "portico.testing.answer": {"portico.headers"},
    "portico.testing.socket": {"portico.client", "portico._core"},
    "portico.testing.client": SERVER
    | {
        "portico.doors.app",
        "portico.testing.answer",
        "portico.testing.fake_core",
        "portico.testing.fake_routes",
        "portico.testing.socket",
        "portico._core",
    },
    "portico.testing.fake_core": {"portico._core"},
    "portico.testing.fake_routes": {"portico._core"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every portico module that `path` imports, except for types only."""
    known = {module_name(other) for other in ROOT.rglob("*.py")} | {"portico._core"}
    found: set[str] = set()
    for node in at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & known or {node.module or ""})
    return {name for name in found if name.split(".")[0] == "portico"}


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and everything in it, except what stands below `if TYPE_CHECKING:`."""
    yield node
    is_for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    children = node.orelse if is_for_types and isinstance(node, ast.If) else ast.iter_child_nodes(node)
    for child in children:
        yield from at_run_time(child)


def allowed(module: str) -> set[str] | None:
    """What `module` may import; None: anything (the package itself, the command line, the demo)."""
    if module.startswith("portico.pumps"):
        return PUMPS
    if module.startswith("portico.doors") and module not in ALLOWED:
        return SERVER | CLIENT
    return ALLOWED.get(module)


def test_no_import_points_backwards() -> None:
    backwards = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = module_name(path)
        rules = allowed(module)
        if rules is not None and (wrong := imports(path) - rules):
            backwards[module] = sorted(wrong)
    assert backwards == {}


def lines_of_code(path: Path) -> int:
    """How many lines are neither blank, nor comments, nor in docstrings."""
    source = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for number, line in lines if number not in told and line.strip() and not line.lstrip().startswith("#"))


def test_doors_are_vocabularies() -> None:
    doors = [path for path in sorted((ROOT / "doors").glob("*.py")) if path.name != "__init__.py"]
    for path in doors:
        words = {
            alias.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for alias in names_in(node)
        }
        assert not words & {"threading", "socket", "selectors", "select", "portico._core"}, path
    assert sum(map(lines_of_code, doors)) < 1000


def names_in(node: ast.AST) -> list[ast.alias]:
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []


@pytest.mark.parametrize("package", [portico, portico.testing])
def test_no_name_hides_a_module(package: ModuleType) -> None:
    # Else `import portico.name as x` would give another thing than `from portico.name import …` reads from.
    modules = {path.stem for folder in package.__path__ for path in Path(folder).glob("*.py")}
    names = {name for name, value in vars(package).items() if not isinstance(value, ModuleType)}
    assert modules & names == set()


def test_rules_name_modules_that_exist() -> None:
    modules = {module_name(path) for path in ROOT.rglob("*.py")} | {"portico._core"}
    assert set(ALLOWED) | set().union(*ALLOWED.values()) | PUMPS | SERVER | CLIENT | API <= modules


# Each of them replaces a handler of the process, a policy, or how system calls end; so does asyncio.run while it runs.
HANDS_OFF = {
    "signal.signal",
    "signal.siginterrupt",
    "signal.setitimer",
    "faulthandler.register",
    "asyncio.run",
    "asyncio.Runner",
    "asyncio.set_event_loop_policy",
    "asyncio.set_event_loop",
    "sigaction",
    "PyOS_setsig",
    "add_signal_handler",
    "remove_signal_handler",
}
# Where Ctrl-C was pressed, and a callback waits in a system call; until that callback ends.
EXCUSED = {("portico.pumps.ctrl_c", "signal.siginterrupt")}


def calls(path: Path) -> set[str]:
    """What `path` mentions with a dot, as `module.name` and as `name`; and what it takes out of modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found |= {node.attr, ast.unparse(node)}
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # for ctypes
    return found


def test_no_signal_handler_is_touched() -> None:
    touched = {(module_name(path), name) for path in ROOT.rglob("*.py") for name in calls(path) & HANDS_OFF}
    assert touched == EXCUSED
