"""Comments that say what a function is for: `#* @name words…` on the lines above it, in an ordinary Python file.

The file runs as any module does; each annotated function is caught as it is defined, so two may have one name.
Which tags there are, and what they mean, is the reader's business. Thread: any.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import sys
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

Usage = Mapping[str, "tuple[int, int, str]"]
"""By tag: the least and the most words after it, and what they are."""

# Formatters (black, ruff) put a space after every `#`.
_COMMENT: Final = re.compile(r"# ?\*")
_CATCH: Final = "__portico_catch__"


class RouteFileError(ValueError):
    """An annotation that can't be followed: its message begins with the file, the line and the tag."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One `#* @name words…`."""

    file: Path
    line: int
    name: str
    words: tuple[str, ...]

    def error(self, problem: object) -> RouteFileError:
        return RouteFileError(f"{self.file}:{self.line}: @{self.name}: {problem}")


@dataclass(slots=True)
class Block:
    """Tags on consecutive lines, and the function that begins on the next one, if any."""

    tags: dict[str, Tag] = field(default_factory=dict)
    last_line: int = 0
    f: Callable[..., object] | None = None

    def words(self, name: str) -> tuple[str, ...] | None:
        return self.tags[name].words if name in self.tags else None


def read_blocks(file: Path, usage: Usage) -> list[Block]:
    """Run `file`; give its blocks of tags, in order. Raises: RouteFileError, OSError, and what the file does."""
    with tokenize.open(file) as opened:
        source = opened.read()
    tree = ast.parse(source, str(file))
    blocks = _find_blocks(file, source, usage)
    _run(file, tree, {block.last_line + 1: block for block in blocks})
    return blocks


def _find_blocks(file: Path, source: str, usage: Usage) -> list[Block]:
    blocks: list[Block] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found = _COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        if found is None:
            continue
        line, column = token.start
        if not blocks or blocks[-1].last_line != line - 1:
            blocks.append(Block())
        blocks[-1].last_line = line
        words = token.string[found.end() :].split()
        if words and words[0].startswith("@"):  # else it is prose
            tag = Tag(file, line, words[0][1:], tuple(words[1:]))
            if column:  # a method, or a function inside another, which would never be found
                raise tag.error("tags stand at the beginning of a line, above functions of the module itself")
            _check_tag(tag, blocks[-1], usage)
            blocks[-1].tags[tag.name] = tag
    return [block for block in blocks if block.tags]


def _check_tag(tag: Tag, block: Block, usage: Usage) -> None:
    if tag.name not in usage:
        import difflib  # only for a mistake

        near = difflib.get_close_matches(tag.name, usage, 1)
        hint = f"did you mean @{near[0]}?" if near else f"there are {', '.join('@' + name for name in usage)}"
        raise tag.error(f"there is no such tag; {hint}")
    least, most, words = usage[tag.name]
    if not least <= len(tag.words) <= most:
        raise tag.error(f"expected {f'@{tag.name} {words}'.strip()!r}; got {' '.join(tag.words)!r}")
    if tag.name in block.tags:
        raise tag.error("it is there twice")


def _run(file: Path, tree: ast.Module, blocks: Mapping[int, Block]) -> None:
    """Run the file as a module of its own, and let each block that stands above a function have it."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min(node.lineno, *(one.lineno for one in node.decorator_list), node.lineno)
            if first in blocks:
                catch = ast.parse(f"{_CATCH}({first})", mode="eval").body
                node.decorator_list.insert(0, ast.copy_location(catch, node))
    ast.fix_missing_locations(tree)
    module = _make_module(file)

    def catch_at(line: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
        def catch(f: Callable[..., object]) -> Callable[..., object]:
            blocks[line].f = f
            return f

        return catch

    setattr(module, _CATCH, catch_at)
    exec(compile(tree, str(file), "exec"), module.__dict__)


def _make_module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"portico_routes_{file.stem}", file)
    assert spec is not None
    # Known by its name, so that dataclasses and pickle find it.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    return module
