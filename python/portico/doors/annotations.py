"""Annotated route files: `#* @message` and its kin above functions of an ordinary Python file, as calls of an Api.

A vocabulary; how tags are found is `comment_tags`' business. Thread: any.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from portico.comment_tags import Block, Tag, read_blocks

Call = Callable[[Any], object]
"""What an Api is to do."""

VERBS: Final = ("get", "post", "put", "delete", "patch", "head", "options", "any")
TAGS: Final[Mapping[str, tuple[int, int, str]]] = {  # the least and the most words after it, and what they are
    **dict.fromkeys(VERBS, (1, 1, "/path")),
    "message": (0, 1, "[/path]"),
    "async": (0, 1, "[threads or processes]"),
    "then": (0, 0, ""),
    "header": (0, 0, ""),
    "statics": (1, 2, "directory [/at]"),
    "except": (1, 1, "/path"),
    "redirect": (3, 3, "[!]method /from /to"),
}
_MODIFIES: Final[Mapping[str, tuple[str, ...]]] = {
    "async": ("message", *VERBS),
    "header": VERBS,
    "except": ("statics",),
}


def read_route_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Call]:
    """Run the files; give what their annotations say, in order. Raises: RouteFileError, OSError, what the files do."""
    for path in map(Path, paths):
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Call]:
    blocks = read_blocks(file, TAGS)
    for index, block in enumerate(blocks):
        if "then" not in block.tags:
            steps = []
            while index + 1 < len(blocks) and "then" in blocks[index + 1].tags:
                index += 1
                steps.append(blocks[index])
            yield from _read_calls(block, steps)
        elif len(block.tags) > 1:
            raise block.tags["then"].error("it stands alone: a step is no handler of its own")
        elif index == 0 or not {"async", "then"} & blocks[index - 1].tags.keys():
            raise block.tags["then"].error("it follows a function that is @async, or another @then")


def _read_calls(block: Block, steps: list[Block]) -> Iterator[Call]:
    tags = block.tags
    kinds = [tag for name, tag in tags.items() if name not in _MODIFIES]
    if not kinds and "header" in tags:
        kinds = [tags["header"]]  # by itself it is the event
    for name, kind_names in _MODIFIES.items():
        if name in tags and tags[name] not in kinds and not any(tag.name in kind_names for tag in kinds):
            raise tags[name].error(f"it goes with {' or '.join('@' + kind for kind in kind_names)}")
    of_function = [tag for tag in kinds if tag.name in (*VERBS, "message", "header")]
    for one in steps:
        if one.f is None:
            raise one.tags["then"].error("no function begins on the line below")
    if of_function and block.f is None:
        raise of_function[0].error("no function begins on the line below")
    options: dict[str, object] = {}
    if "async" in tags:
        options = {"async_": (*tags["async"].words, True)[0], "then": [one.f for one in steps]}
    for tag in kinds:
        yield _guarded(tag, _read_call(tag, block, options))


def _read_call(tag: Tag, block: Block, options: Mapping[str, Any]) -> Call:
    f, words = block.f, tag.words
    if tag.name == "message":
        return lambda api: api.add_message(f, path=words[0] if words else None, **options)
    if tag.name == "header":
        return lambda api: api.on("header", f)
    if tag.name == "statics":
        at = words[1] if len(words) > 1 else "/"
        return lambda api: api.statics(at, tag.file.parent / words[0], except_=block.words("except") or ())
    if tag.name == "redirect":
        method, is_permanent = words[0].lstrip("!"), words[0].startswith("!")
        return lambda api: api.redirect(method, words[1], words[2], permanent=is_permanent)
    method = "*" if tag.name == "any" else tag.name.upper()
    return lambda api: api.add_route((method,), words[0], f, header="header" in block.tags, **options)


def _guarded(tag: Tag, call: Call) -> Call:
    def run(api: Any) -> object:
        try:
            return call(api)
        except (TypeError, ValueError, OSError) as error:
            raise tag.error(error) from error

    return run
