"""Nothing of a run is in the person's folders before they say so, whatever ends it; then it can be taken back."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.protocol.errors import Conflict, DispatchError, Gone, Internal, NotFound
from tests.conftest import more
from tests.system.world import Document, Person, eventually, paths_below

Pair = tuple[Person, Person]


def write(path: str, content: str) -> Document:
    return {"tool": "Write", "input": {"file_path": path, "content": content}}


def shell(command: str) -> Document:
    return {"tool": "Bash", "input": {"command": command}}


CHANGES = (
    write("src/app.py", "print('new')\n"),
    write("notes.md", "what was done\n"),
    write("conftest.py", "import os\n"),
    shell(
        "rm old.txt && chmod +x run.sh && ln -s src/app.py link && "
        "printf '#!/bin/sh\\n' > .git/hooks/pre-commit && mkdir -p node_modules/a && echo 1 > node_modules/a/b.js && "
        "echo changed"
    ),
    {"say": "done"},
)
UNMARKED = {"src/app.py", "notes.md", "old.txt"}


@pytest.fixture
def project(pair: Pair) -> Path:
    bob = pair[1]
    folder = bob.projects / f"kettle-{os.urandom(4).hex()}"
    (folder / "src").mkdir(parents=True)
    (folder / "src/app.py").write_text("print('old')\n")
    (folder / "old.txt").write_text("to go\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "kept.txt").write_text("stays\n")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path with its mode and what it holds or leads to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        what = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (about.st_mode, hashlib.sha256(str(what).encode()).hexdigest())
    return found


def ran(pair: Pair, project: Path, *steps: Document, ends: str = "completed", **scope: object) -> str:
    """Run a dispatch in the project to its end; return its id."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto", **scope}, confirm_unverified=True)
    bob.will(*steps)
    identity = str(alice.client.send(bob.email, "Mend the kettle")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(project))
    bob.state_of(identity, ends)
    return identity


def by_path(bob: Person, identity: str) -> dict[str, Document]:
    return {entry["path"]: entry for entry in bob.client.changes(identity)["entries"]}


def test_what_a_run_changed_waits_lands_and_is_taken_back(pair: Pair, project: Path) -> None:
    bob = pair[1]
    before = tree(project)
    identity = ran(pair, project, *CHANGES)
    assert tree(project) == before
    listed = bob.client.changes(identity)
    assert (listed["landed"], listed["in_place"]) == ("waiting", 0)
    found = by_path(bob, identity)
    assert {path for path, entry in found.items() if not entry["marks"] and not entry["never"]} == UNMARKED
    assert found["conftest.py"]["marks"] and found["run.sh"]["marks"] and found["link"]["marks"]
    assert found[".git"]["never"] and found["node_modules"]["change"] == "folded"
    applied = bob.client.apply(identity, all=True, digest=listed["digest"])
    assert applied["ok"] and set(applied["landed"]) == UNMARKED
    assert (project / "src/app.py").read_text() == "print('new')\n"
    assert (project / "notes.md").read_text() == "what was done\n"
    assert not (project / "old.txt").exists() and not (project / "conftest.py").exists()
    assert not (project / ".git/hooks/pre-commit").exists() and not (project / "node_modules").exists()
    assert bob.client.apply(identity, paths=["conftest.py", "link"])["ok"]
    assert (project / "conftest.py").read_text() == "import os\n" and (project / "link").readlink() == Path(
        "src/app.py"
    )
    for undone in ({"conftest.py", "link"}, UNMARKED):
        assert set(bob.client.undo(identity)["undone"]) == undone
    assert tree(project) == before
    with pytest.raises(Conflict):
        bob.client.undo(identity)


@pytest.mark.long
def test_a_change_is_shown_with_counts_and_colours_and_as_much_around_it_as_asked(pair: Pair, project: Path) -> None:
    bob = pair[1]
    (project / "src/app.py").write_text("import os\n" + "x = 1\n" * 20)
    identity = ran(pair, project, write("src/app.py", "import os\n" + "x = 1\n" * 19 + "y = 2\nz = 3\n"))
    at = f"/v1/dispatches/{identity}/changes"
    (entry,) = bob.client._ask("GET", f"{at}?counts=1")["entries"]
    assert (entry["added"], entry["removed"]) == (2, 1)
    assert "added" not in bob.client.changes(identity)["entries"][0]
    diff = str(bob.client.change(identity, entry["number"])["diff"])
    whole = str(bob.client._ask("GET", f"{at}/{entry['number']}?context=1000")["diff"])
    assert (
        "import os" not in diff
        and " import os\n x = 1\n" in whole
        and diff.splitlines()[-3:] == whole.splitlines()[-3:]
    )
    colours = bob.client._ask("GET", f"{at}/{entry['number']}?colours=1")["colours"]
    assert (colours["language"], len(colours["old"]), len(colours["new"])) == ("Python", 21, 22)
    assert colours["new"][0] == [["keyword", 6], ["", 1], ["type", 2]]
    (project / "src/app.py").write_text("mine\n")
    assert bob.client._ask("GET", f"{at}/{entry['number']}?colours=1")["colours"] is None
    (entry,) = bob.client._ask("GET", f"{at}?counts=1")["entries"]
    assert (entry["added"], entry["removed"]) == (None, None)


def test_what_helps_names_the_dispatch(pair: Pair, project: Path) -> None:
    bob = pair[1]
    identity = ran(pair, project, write("conftest.py", "import os\n"))
    refused: list[Callable[[], object]] = [
        lambda: bob.client.change(identity, 7),
        lambda: bob.client.apply(identity),
        lambda: bob.client.apply(identity, all=True),
        lambda: bob.client.apply(identity, paths=["nothing"]),
        lambda: bob.client.apply(identity, numbers=[7]),
        lambda: bob.client.undo(identity),
    ]
    for call in refused:
        with pytest.raises(DispatchError) as error:
            call()
        assert f"`dispatch changes {identity}`" in error.value.fix
    stored = bob.state.changes / identity / "1" / "changes.json"
    stored.write_bytes(stored.read_bytes() + b" ")
    with pytest.raises(Internal) as altered:
        bob.client.changes(identity)
    assert altered.value.fix == f"discard them: `dispatch discard {identity}`"


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=Bob", "-c", "user.email=bob@example.org"]
    return subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_what_a_run_committed_lands_as_refs_alone(pair: Pair, project: Path) -> None:
    bob = pair[1]
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    commit = "git -c user.name=Rob -c user.email=rob@example.org commit -q"
    identity = ran(
        pair,
        project,
        shell(
            f"echo by-the-run > src/app.py && {commit} -a -m 'mend it' && git checkout -q -b 'a;b' && "
            f"echo more > more.py && git add . && {commit} -m 'more of it' && echo committed"
        ),
    )
    before = tree(project)
    found = by_path(bob, identity)
    entry = found[".git/refs/heads"]
    assert (entry["change"], entry["count"]) == ("commits", 2) and "commits are code" in entry["marks"][0]
    assert {each["name"]: each["ref"] for each in entry["branches"]} == {
        "a;b": f"dispatch/{identity}/branch-1",
        git(project, "branch", "--show-current").strip(): entry["branches"][1]["ref"],
    }
    assert found[".git"]["never"].endswith("the run's commits are listed by themselves")
    shown = bob.client.change(identity, entry["number"])["diff"]
    assert "    mend it" in shown and "+by-the-run" in shown and "    more of it" in shown
    with_all = bob.client.apply(identity, all=True)
    assert ".git/refs/heads" not in with_all["landed"] and bob.client.undo(identity)["ok"]
    applied = bob.client.apply(identity, paths=[".git"])
    assert applied["landed"] == [".git/refs/heads"] and len(applied["merge"]) == 2
    assert {path: what for path, what in tree(project).items() if path in before} == before
    assert "by-the-run" not in (project / "src/app.py").read_text()
    for command in applied["merge"]:
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (project / "src/app.py").read_text() == "by-the-run\n" and (project / "more.py").exists()
    assert bob.client.undo(identity)["undone"] == [".git/refs/heads"]
    assert "refs/dispatch" not in git(project, "for-each-ref")


def test_what_the_person_changed_meanwhile_is_never_overwritten(pair: Pair, project: Path) -> None:
    bob = pair[1]
    identity = ran(pair, project, *CHANGES)
    (project / "src/app.py").write_text("print('mine')\n")
    refused = bob.client.apply(identity, all=True)
    assert not refused["ok"] and [each["path"] for each in refused["refused"]] == ["src/app.py"]
    assert not (project / "notes.md").exists()
    assert bob.client.apply(identity, paths=["notes.md"])["ok"]
    (project / "notes.md").write_text("edited since\n")
    undone = bob.client.undo(identity)
    assert not undone["ok"] and [each["path"] for each in undone["refused"]] == ["notes.md"]
    assert (project / "notes.md").read_text() == "edited since\n"
    assert (project / "src/app.py").read_text() == "print('mine')\n"


@pytest.mark.long
def test_what_is_thrown_away_is_gone(pair: Pair, project: Path) -> None:
    bob = pair[1]
    before = tree(project)
    identity = ran(pair, project, *CHANGES)
    assert bob.client.discard(identity)["ok"]
    with pytest.raises(Gone):
        bob.client.apply(identity, all=True)
    assert tree(project) == before
    eventually(lambda: not paths_below(bob.state.changes, f"{identity}/*"), what="its contents removed")


def test_an_edge_may_let_unmarked_changes_land_at_once_and_no_others(pair: Pair, project: Path) -> None:
    bob = pair[1]
    identity = ran(pair, project, *CHANGES, apply="auto")
    (summary,) = bob.client.dispatch(identity)["changes"]
    assert (summary["landed"], summary["in_place"]) == ("part", len(UNMARKED))
    assert (project / "src/app.py").read_text() == "print('new')\n" and not (project / "conftest.py").exists()
    failed = ran(pair, project, write("more.md", "x"), shell("exit 3"), ends="completed", apply="review")
    assert not (project / "more.md").exists()
    assert by_path(bob, failed)["more.md"]


@pytest.mark.parametrize("how", [*more("cancelled", "revoked", "stop"), "crash"])
def test_what_a_run_changed_is_kept_however_it_ends(pair: Pair, project: Path, how: str) -> None:
    alice, bob = pair
    before = tree(project)
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "auto"}, confirm_unverified=True)
    bob.will(*CHANGES[:2], shell("sleep 300"))
    identity = str(alice.client.send(bob.email, "Mend the kettle")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(project))
    bob.event_of(identity, lambda event: event.get("input", {}).get("command") == "sleep 300")
    match how:
        case "cancelled":
            alice.client.cancel(identity)
            bob.state_of(identity, "cancelled")
        case "revoked":
            bob.client.revoke_trust(alice.email)
            bob.state_of(identity, "cancelled")
        case "crash" | "stop":
            bob.stop(signal.SIGKILL if how == "crash" else signal.SIGTERM)
            bob.start()
    eventually(lambda: bob.client.dispatch(identity)["changes"], what="its changes")
    assert tree(project) == before
    assert set(by_path(bob, identity)) >= {"src/app.py", "notes.md"}
    assert bob.client.apply(identity, all=True)["ok"]
    assert (project / "notes.md").read_text() == "what was done\n"
    eventually(lambda: not bob.run_folders() and not bob.trash(), what="the run's folder removed")


@pytest.mark.long
def test_two_runs_in_one_project_see_neither_each_other_nor_conflict_by_themselves(pair: Pair, project: Path) -> None:
    bob = pair[1]
    first = ran(pair, project, write("one.md", "1"))
    second = ran(pair, project, shell("ls one.md || echo unseen"), write("two.md", "2"))
    events = bob.client.dispatch(second)["events"]
    assert any("unseen" in event.get("output", "") for event in events)
    for identity in (first, second):
        assert bob.client.apply(identity, all=True)["ok"]
    assert (project / "one.md").read_text() + (project / "two.md").read_text() == "12"


def test_a_sender_gets_the_changes_as_a_patch_that_git_applies(pair: Pair, project: Path) -> None:
    alice, bob = pair
    identity = ran(pair, project, write("src/app.py", "print('new')\n"), write("notes.md", "x\n"))
    alice.state_of(identity, "completed")
    fetched = bob.home / f"patch-{identity}"
    eventually(
        lambda: all(file["ready"] for file in alice.client.dispatch(identity)["result"]["files"]), what="the patch"
    )
    alice.cli("fetch", identity, "--to", str(fetched))
    subprocess.run(["git", "apply", "-p2", "--unidiff-zero", fetched / "changes.diff"], cwd=project, check=True)
    assert (project / "src/app.py").read_text() == "print('new')\n"


def test_the_command_line_shows_applies_and_takes_back(pair: Pair, project: Path) -> None:
    bob = pair[1]
    identity = ran(pair, project, *CHANGES)
    short = identity[-8:]
    shown = bob.cli("changes", short, "--diff")
    assert "+print('new')" in shown and "marked:" in shown
    assert f"\n~/{project.relative_to(bob.home)}\n" in shown
    assert "src/app.py" in bob.cli("apply", short, "--all", "--dry-run") and not (project / "notes.md").exists()
    assert "applied: notes.md" in bob.cli("apply", short, "notes.md")
    assert (project / "notes.md").exists()
    assert "undone: notes.md" in bob.cli("undo", short)
    assert not (project / "notes.md").exists()
    assert bob.refused("apply", short)["code"] == 422
    assert bob.refused("apply", short, "no/such")["code"] == 404
    assert "discarded" in bob.cli("discard", short)
    assert bob.refused("changes", short)["code"] == 410


def test_a_dispatch_without_a_folder_has_no_changes(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will({"say": "nothing to do"})
    identity = str(alice.client.send(bob.email, "Do nothing")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity)
    bob.state_of(identity, "completed")
    assert bob.client.dispatch(identity)["changes"] == []
    with pytest.raises(NotFound):
        bob.client.changes(identity)
