"""Random folders, changes and edits beside a model: whole or not at all, no edit lost, and undo restores the rest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from sandbox.changes.values import Entry
from tests.landing.world import Snapshot, World, look

Leaf = tuple[str, bool, bytes]
Tree = dict[str, Leaf]
"""By path; a folder is ("folder", False, b"")."""
FOLDER: Leaf = ("folder", False, b"")

names = st.sampled_from("abc")
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
leaves: st.SearchStrategy[Leaf] = st.one_of(
    st.tuples(st.just("file"), st.booleans(), st.sampled_from([b"", b"1", b"2", b"3"])),
    st.tuples(st.just("link"), st.just(False), st.sampled_from([b"a", b"b/c"])),
    st.just(FOLDER),
)


def with_parents(listed: list[tuple[str, Leaf]]) -> Tree:
    tree: Tree = {}
    for path, leaf in listed:
        above = [str(each) for each in Path(path).parents][:-1]
        if path not in tree and all(tree.get(each, FOLDER) == FOLDER for each in above):
            tree |= dict.fromkeys(above, FOLDER)
            tree[path] = leaf
    return tree


trees = st.lists(st.tuples(paths, leaves), max_size=8).map(with_parents)
edits = st.lists(st.tuples(paths, st.sampled_from(["write", "delete", "folder", "execution", "replace"])), max_size=3)


def build(root: Path, tree: Tree) -> None:
    for path, (kind, executable, content) in sorted(tree.items()):
        place = root / path
        if kind == "folder":
            place.mkdir()
        elif kind == "link":
            place.symlink_to(os.fsdecode(content))
        else:
            place.write_bytes(content)
            place.chmod(0o755 if executable else 0o644)


def edit(root: Path, made: list[tuple[str, str]]) -> None:
    """Do what the person does meanwhile, as far as it can be done."""
    for path, what in made:
        place = root / path
        if any((root / each).is_symlink() for each in Path(path).parents):
            continue
        try:
            if what == "write" and not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"edited")
            elif what == "delete":
                place.unlink()
            elif what == "folder":
                place.mkdir(parents=True)
            elif what == "execution" and place.is_file() and not place.is_symlink():
                place.chmod(place.stat().st_mode ^ 0o111)
            elif what == "replace":
                shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
                place.mkdir()
                (place / "inner").write_bytes(b"edited")
        except OSError:
            pass


def changes(world: World, before: Tree, after: Tree) -> list[Entry]:
    """Note what a run changed, as the reader of a view does: what was in a deleted folder comes before it."""
    for path in sorted(before, reverse=True):
        old, new = before[path], after.get(path)
        if new is None or (new == FOLDER and old != FOLDER and any(each.startswith(path + "/") for each in after)):
            world.delete(path)
    for path, new in sorted(after.items()):
        found = before.get(path)
        kind, executable, content = new
        change = "added" if found is None else "changed"
        base: dict[str, Any] = {"base": None} if found is None else {}
        if new == found:
            continue
        if kind == "folder":
            if not any(each.startswith(path + "/") for each in after):
                world.note(change, path, kind="folder", **base)
        elif kind == "link":
            world.link(path, content, change, **base)
        elif found is not None and found[0] == "file" and found[2] == content:
            world.set_mode(path, executable=executable)
        elif found is None:
            world.add(path, content, executable=executable, **base)
        else:
            world.change(path, content, kind="file", executable=executable)
    return world.entries


def simple(snapshot: Snapshot) -> Tree:
    return {
        path: ("file", bool(about[1] & 0o111), about[2]) if about[0] == "file" else (about[0], False, (*about, b"")[1])
        for path, about in snapshot.items()
    }


def wanted(now: Tree, chosen: list[Entry], after: Tree) -> Tree:
    result = dict(now)
    for entry in chosen:
        if entry.change == "deleted" or (entry.base is not None and entry.base.kind == "folder"):
            del result[entry.path.decode()]
    for entry in chosen:
        path = entry.path.decode()
        if entry.change != "deleted":
            for above in [str(each) for each in Path(path).parents][:-1]:
                result.setdefault(above, FOLDER)
            result[path] = after[path]
    return result


@given(trees, trees, edits, edits, st.data())
def test_like_the_model(
    before: Tree, after: Tree, meanwhile: list[tuple[str, str]], later: list[tuple[str, str]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(prefix="dispatch-landing-") as top:
        world = World(Path(top))
        build(world.root, before)
        entries = changes(world, before, after)
        every = data.draw(st.booleans())
        chosen = [entry for entry in entries if every or data.draw(st.booleans())]
        edit(world.root, meanwhile)
        person = world.look()
        would = world.dry_run(chosen).refusals
        assert world.look() == person
        refused = world.apply(chosen)
        landed = world.look()
        assert {each.number for each in would} == {each.number for each in refused}
        if refused:
            event("refused")
            assert landed == person
            assert not world.journal.exists()
            assert chosen != entries or simple(person) != before  # all that a run changed fits where nobody else did
            return
        event("landed")
        model = simple(person)
        for entry in chosen:
            path = entry.path.decode()
            assert model.get(path) == before.get(path)  # no newer edit was there
        assert simple(landed) == wanted(model, chosen, after)
        edit(world.root, later)
        edited = world.look()
        stay = {each.number for each in world.undo()}
        event("undo with edits" if edited != landed else "undo")
        last = look(world.root)
        if edited == landed:
            assert not stay and last == person
            return
        for path in {*edited, *landed}:
            if edited.get(path) != landed.get(path) and path in edited:
                assert last.get(path) == edited[path]
        for entry in chosen:
            path = entry.path.decode()
            if edited.get(path) == landed.get(path) and entry.number not in stay:
                assert last.get(path) == person.get(path)
        for path in {*edited, *last} - {entry.path.decode() for entry in chosen}:
            is_made = path not in person and landed.get(path) == ("folder",)
            assert last.get(path) == edited.get(path) or (is_made and path not in last)
        assert not any("dispatch-" in path for path in last)
