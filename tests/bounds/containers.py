"""Finds, in the text of the programs, whatever can hold more and more: containers, queues, caches, tables of a store.

A container is named by where it lives: `peer.node.changes:ChangeLog._changes` is an attribute, `MODULE:NAME` a global,
`MODULE:function.name` a local that a function inside of it fills, and `MODULE:function` a function with a cache. What
is filled once with what is there already (a comprehension, a copy) and never grown is not one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("peer", "sandbox", "rendezvous", "cli", "mcp_plugin")

_EMPTY = {
    "dict", "list", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "Recent",
    "WeakValueDictionary", "WeakKeyDictionary", "WeakSet", "ChainMap", "UserDict", "UserList",
}  # fmt: skip
_QUEUES = {"Queue", "SimpleQueue", "LifoQueue", "PriorityQueue"}
_CHANNELS = {"open_memory_channel", "create_memory_object_stream"}
_CACHES = {"cache", "lru_cache"}
_GROWS = {"append", "appendleft", "extend", "extendleft", "add", "update", "setdefault", "insert", "put", "put_nowait"}
_PUSHES = {"heappush", "heappushpop"}
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__all__")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module of the programs."""

    module: str
    path: Path
    tree: ast.Module


@cache
def sources() -> tuple[Source, ...]:
    """Return every module of the five packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Source(module, path, ast.parse(path.read_text())))
    return tuple(found)


@cache
def tables() -> frozenset[str]:
    """Return the tables that are there after all migrations, as `peer.store/contacts`: room and table."""
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix not in (".sql", ".py"):
                continue
            room = ".".join(path.relative_to(ROOT).parts[:2])
            text = path.read_text()
            for made in re.findall(r"CREATE\s+(?:VIRTUAL\s+)?TABLE\s+(?:IF NOT EXISTS\s+)?(\w+)", text):
                found.add(f"{room}/{made}")
            for gone in re.findall(r"DROP TABLE\s+(\w+)", text):
                found.discard(f"{room}/{gone}")
            for old, new in re.findall(r"ALTER TABLE\s+(\w+)\s+RENAME TO\s+(\w+)", text):
                found.discard(f"{room}/{old}")
                found.add(f"{room}/{new}")
    return frozenset(found)


@cache
def containers() -> frozenset[str]:
    """Return the names of all containers that can grow, however they are declared."""
    return found_in(sources())


def found_in(every: tuple[Source, ...]) -> frozenset[str]:
    """Return the containers of these modules."""
    grown = frozenset(_grown_in([source.tree for source in every]))
    structs = _structs(every)
    return frozenset(name for source in every for name in _of_module(source, grown, structs))


def _of_module(source: Source, grown: frozenset[str], structs: frozenset[str]) -> Iterator[str]:
    for statement in source.tree.body:
        for target, value in _assigned(statement):
            if isinstance(target, ast.Name) and _kind(value):
                constant = _CONSTANT.fullmatch(target.id) and target.id not in grown
                if not constant:
                    yield f"{source.module}:{target.id}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            yield from _of_class(source, node, grown, structs)
        elif isinstance(node, _Function):
            yield from _of_function(source, node)


def unbounded(source: Source) -> Iterator[tuple[str, str]]:
    """Yield (container, why) for channels, queues, deques and caches that are made without a bound."""
    for node, where in _calls(source):
        name = _name(node.func)
        if name in _CHANNELS:
            size = node.args[0] if node.args else None
            if size is None or (
                not isinstance(size, ast.Constant) and not (isinstance(size, ast.Name) and _CONSTANT.fullmatch(size.id))
            ):
                yield where, f"{name} with a size that is no constant"
        elif name in _QUEUES and not (node.args or any(word.arg == "maxsize" for word in node.keywords)):
            yield where, f"{name} without a size"
        elif name == "deque" and len(node.args) < 2 and not any(word.arg == "maxlen" for word in node.keywords):
            yield where, "deque without maxlen"
        elif name == "lru_cache":
            sizes = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "maxsize")]
            if any(isinstance(size, ast.Constant) and size.value is None for size in sizes):
                yield where, "lru_cache(None)"
    for function in ast.walk(source.tree):
        if isinstance(function, _Function):
            for decorator in function.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if _name(called) == "cache":
                    yield f"{source.module}:{function.name}", "functools.cache"


def _calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Yield each call with the name of the container that it makes, as `containers` would spell it."""

    def visit(node: ast.AST, owner: str, function: str, target: str) -> Iterator[tuple[ast.Call, str]]:
        if isinstance(node, ast.ClassDef):
            owner, function = node.name, ""
        elif isinstance(node, _Function):
            function = node.name
        if isinstance(node, ast.Assign | ast.AnnAssign):
            first = node.targets[0] if isinstance(node, ast.Assign) else node.target
            first = first.elts[0] if isinstance(first, ast.Tuple) else first
            around = owner if isinstance(first, ast.Attribute) else function or owner
            target = f"{around}.{_name(first)}" if around else _name(first)
        if isinstance(node, ast.Call):
            yield node, f"{source.module}:{target or function or owner}"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, owner, function, target)

    yield from visit(source.tree, "", "", "")


def _of_class(source: Source, node: ast.ClassDef, grown: frozenset[str], structs: frozenset[str]) -> Iterator[str]:
    struct = node.name in structs
    for part in node.body:
        for target, value in _assigned(part):
            # msgspec copies a default that is an empty container: it is the form of a document, not a place.
            if isinstance(target, ast.Name) and (kind := _kind(value)) and not (struct and kind != "factory"):
                yield f"{source.module}:{node.name}.{target.id}"
    found = set()
    for inner in ast.walk(node):
        for target, value in _assigned(inner):
            if isinstance(target, ast.Attribute) and _name(target.value) == "self" and (kind := _kind(value)):
                if kind == "filled" and target.attr not in grown:
                    continue
                found.add(f"{source.module}:{node.name}.{target.attr}")
    yield from sorted(found)


def _of_function(source: Source, node: _Function) -> Iterator[str]:
    """Yield locals that a nested function fills, deques, and the function itself if it has a cache."""
    for decorator in node.decorator_list:
        if _name(decorator.func if isinstance(decorator, ast.Call) else decorator) in _CACHES:
            yield f"{source.module}:{node.name}"
    inner = [part for part in ast.walk(node) if isinstance(part, _Function) and part is not node]
    filled = _grown_in(inner)
    for part in node.body:
        for statement in ast.walk(part):
            for target, value in _assigned(statement):
                if not isinstance(target, ast.Name) or not _kind(value):
                    continue
                own = isinstance(value, ast.Call) and _name(value.func) == "deque"
                shared = target.id in filled and not any(statement in ast.walk(each) for each in inner)
                if own or shared:
                    yield f"{source.module}:{node.name}.{target.id}"


def _kind(value: ast.expr | None) -> str:
    """ "" for no container, "empty", "filled" (with what is there at that moment), or "factory" of a dataclass."""
    if isinstance(value, ast.Dict | ast.List | ast.Set):
        return "filled" if (value.keys if isinstance(value, ast.Dict) else value.elts) else "empty"
    if isinstance(value, ast.DictComp | ast.ListComp | ast.SetComp):
        return "filled"
    if not isinstance(value, ast.Call):
        return ""
    name = _name(value.func)
    if name in _QUEUES or name in _CHANNELS:
        return "empty"
    if name in _EMPTY:
        return "filled" if value.args and name != "deque" else "empty"
    if name == "field":
        made = next((word.value for word in value.keywords if word.arg == "default_factory"), None)
        if isinstance(made, ast.Lambda):
            return "factory" if _kind(made.body) else ""
        return "factory" if made is not None and _name(made) in _EMPTY else ""
    return ""


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(target.elts)
                yield from zip(target.elts, values, strict=True)
            else:
                yield target, node.value
    elif isinstance(node, ast.AnnAssign):
        yield node.target, node.value


def _structs(every: tuple[Source, ...]) -> frozenset[str]:
    """Return the names of msgspec's structs, those of ours that others inherit from included."""
    found = {"Struct"}
    classes = [node for source in every for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    while more := {each.name for each in classes if any(_name(base) in found for base in each.bases)} - found:
        found |= more
    return frozenset(found)


def _grown_in(trees: list[ast.Module] | list[_Function]) -> set[str]:
    """Return the last names of whatever something is added to in these trees."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Subscript):
                        found.add(_name(target.value))
                    elif isinstance(node, ast.AugAssign):
                        found.add(_name(target))
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute) and node.func.attr in _GROWS:
                    found.add(_name(node.func.value))
                elif _name(node.func) in _PUSHES and node.args:
                    found.add(_name(node.args[0]))
    return found


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.id if isinstance(node, ast.Name) else ""
