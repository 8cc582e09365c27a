"""Folders at their own paths inside a run, with real daemons: what works there, what the sender is told, worktrees."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system.world import Document, Person

Pair = tuple[Person, Person]
COMMIT = "git -c user.name=Rob -c user.email=rob@example.org commit -q"


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=Bob", "-c", "user.email=bob@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def shell(command: str) -> Document:
    return {"tool": "Bash", "input": {"command": command}}


def ran(pair: Pair, folder: Path, *steps: Document, **scope: object) -> str:
    """Run a dispatch in the folder to its end; return its id."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto", **scope}, confirm_unverified=True)
    bob.will(*steps)
    identity = str(alice.client.send(bob.email, "Look")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(folder))
    alice.state_of(identity, "completed", "failed")
    return identity


def outputs(person: Person, identity: str) -> list[str]:
    return [event["output"] for event in person.client.dispatch(identity)["events"] if event["kind"] == "tool_result"]


class Tree:
    """A repository of Bob's and a linked worktree of it."""

    def __init__(self, bob: Person) -> None:
        mark = os.urandom(4).hex()
        self.main, self.tree = bob.projects / f"main-{mark}", bob.projects / f"wt-{mark}"
        self.main.mkdir()
        git(self.main, "init", "-q", "-b", "trunk")
        (self.main / "a.py").write_text("one\n")
        git(self.main, "add", ".")
        git(self.main, "commit", "-qm", "the-first")
        git(self.main, "worktree", "add", "-q", str(self.tree), "-b", f"wt-{mark}")
        self.refs = git(self.main, "for-each-ref")


@pytest.fixture
def tree(pair: Pair) -> Tree:
    return Tree(pair[1])


def test_what_names_its_own_path_works_and_the_sender_reads_the_projects_name(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair
    project = bob.projects / f"my kettle-{os.urandom(4).hex()}"
    (project / ".venv/bin").mkdir(parents=True)
    tool = project / ".venv/bin/tool"
    tool.write_text(f"#!{project.parent}/link/sh\n")
    (project / ".venv/bin/sh").symlink_to("/bin/sh")
    (project / "tool.sh").write_text(f'. "{project}/lib.sh"\n')
    (project / "lib.sh").write_text("echo it works\n")
    slug = "".join(c if c.isalnum() else "-" for c in str(project))
    said = f"{project}/x {json.dumps(str(project))} file://{str(project).replace(' ', '%20')} {slug} ~/code {bob.home}"
    identity = ran(
        pair,
        project,
        shell(f"pwd; sh '{project}/tool.sh'; ls -d '{project.parent}'; ls '{bob.home}/.dispatch'"),
        {"tool": "Read", "input": {"file_path": f"{project}/lib.sh"}},
        {"tool": "Write", "input": {"file_path": f"{project}/new.txt", "content": f"made in {project}\n"}},
        {"tool": "Write", "input": {"file_path": "/dispatch/out/note.txt", "content": said}},
        shell(f"printf '\\377{project}' > /dispatch/out/binary"),
        {"say": f"It is in {said}."},
    )
    own = bob.client.dispatch(identity)
    first = outputs(bob, identity)[0]
    assert first.startswith(f"{project}\nit works\n{project.parent}\n") and "cannot access" in first
    shown = alice.client.dispatch(identity)
    name = project.name
    assert outputs(alice, identity)[0].startswith(f"{name}\nit works\n…\n")
    assert (
        shown["result"]["reply"]
        == f'It is in {name}/x "{name}" file://{name.replace(" ", "%20")} {slug[-len(name) :]} … ~.'
    )
    assert "binary" in shown["result"]["reason"] and "path of a folder" in shown["result"]["reason"]
    alice.cli("fetch", identity, "--to", str(tmp_path / "back"))
    files = {path.name: path.read_text() for path in (tmp_path / "back").iterdir()}
    assert files["note.txt"] == shown["result"]["reply"].removeprefix("It is in ").removesuffix(".")
    assert f'"b/{name}/new.txt"' in files["changes.diff"] and f"+made in {name}\n" in files["changes.diff"]
    alice.cli("receipt", identity, "--out", str(tmp_path / "x.receipt"))
    receipt = (tmp_path / "x.receipt").read_bytes().decode("latin-1")
    for held in (json.dumps(shown, ensure_ascii=False), json.dumps(files), receipt):
        for secret in (str(bob.home), str(bob.projects), str(project)):
            assert secret not in held and secret.replace("/", "-") not in held
    assert str(project) in json.dumps(own["events"]), "the person's own trace has the paths"
    assert {entry["path"] for entry in bob.client.changes(identity)["entries"]} == {"new.txt"}


def test_commits_in_a_worktree_come_back_as_refs_of_its_repository(pair: Pair, tree: Tree) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto", "paths": [str(tree.tree)]}, confirm_unverified=True)
    edge = bob.client.trust(alice.email)
    assert edge["git_folders"] == {str(tree.tree): f"{tree.main}/.git"}
    identity = ran(
        pair,
        tree.tree,
        shell("git status --short && git log --format=%s && git worktree list | wc -l"),
        shell(f"echo two > a.py && {COMMIT} -am 'the-second' && git status --short && git log --format=%s -1"),
        shell(f"git checkout -q --detach && echo three > a.py && {COMMIT} -am 'on-no-branch' && echo done"),
        shell(f"cat '{tree.main}/a.py' 2>&1 || true"),
        {"tool": "Read", "input": {"file_path": f"{tree.main}/.git/config"}},
    )
    assert outputs(bob, identity)[:3] == ["the-first\n2\n", "the-second\n", "done\n"]
    assert "No such file" in outputs(bob, identity)[3], "its other files are not there"
    assert "outside the folders" in outputs(bob, identity)[4], "it is there for git, and not for the file tools"
    # Nothing of it is in place before the person says so.
    assert git(tree.main, "for-each-ref") == tree.refs and git(tree.tree, "status", "--short") == ""
    found = {(entry["folder"], entry["path"]): entry for entry in bob.client.changes(identity)["entries"]}
    commits = found[f"{tree.main}/.git", "refs/heads"]
    assert (commits["change"], commits["count"]) == ("commits", 2)
    assert {branch["name"] for branch in commits["branches"]} == {tree.tree.name, "HEAD"}
    assert "on-no-branch" in bob.client.change(identity, commits["number"])["diff"]
    dropped = found[f"{tree.main}/.git", "."]
    assert dropped["never"] and dropped["change"] == "dropped"
    applied = bob.client.apply(identity, paths=[f"{tree.main}/.git"])
    assert applied["ok"] and applied["landed"] == ["refs/heads"]
    assert git(tree.main, "for-each-ref", "--format=%(refname)", "refs/dispatch").count("refs/dispatch") == 2
    assert git(tree.tree, "status", "--short") == "" and (tree.tree / "a.py").read_text() == "one\n"
    command = next(each for each in applied["merge"] if each.endswith(tree.tree.name))
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (tree.tree / "a.py").read_text() == "two\n" and (tree.main / "a.py").read_text() == "one\n"
    told = json.dumps(alice.client.dispatch(identity), ensure_ascii=False)
    assert str(bob.home) not in told and "the-second" in told


@pytest.mark.long
def test_a_submodule_and_a_worktree_that_are_chosen_at_accept_are_said_and_work(pair: Pair, tree: Tree) -> None:
    alice, bob = pair
    outer = bob.projects / f"outer-{os.urandom(4).hex()}"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "add", "-q", str(tree.main), "sub")
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    for folder, repository in ((outer / "sub", outer / ".git/modules/sub"), (tree.tree, tree.main / ".git")):
        bob.will(
            shell(f"git status --short && echo x > x && git add x && {COMMIT} -m 'by-the-run' && git log --format=%s")
        )
        identity = str(alice.client.send(bob.email, "Look")["dispatch_id"])
        alice.state_of(identity, "pending")
        (sentence,) = bob.client.folder(identity, str(folder))["obstacles"]
        assert str(repository) in sentence and "its whole history" in sentence
        accepted = bob.cli("accept", identity, "--cwd", str(folder), "--no-follow", "--json")
        assert sentence in accepted.errors and accepted.json["git_folder"] == str(repository)
        alice.state_of(identity, "completed")
        assert outputs(bob, identity) == ["by-the-run\nthe-first\n"]
        kinds = {(entry["folder"], entry["change"]) for entry in bob.client.changes(identity)["entries"]}
        assert (str(repository), "commits") in kinds
        assert bob.client.apply(identity, paths=[str(repository)])["ok"]
    assert "by-the-run" in git(outer / "sub", "log", "--format=%s", "--all")


def test_submodules_inside_a_granted_folder_work_as_they_are(pair: Pair, tree: Tree) -> None:
    bob = pair[1]
    outer = bob.projects / f"outer-{os.urandom(4).hex()}"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "add", "-q", str(tree.main), "sub")
    git(outer, "commit", "-qm", "with-it")
    listed = (
        "git submodule status | cut -c1-41,42-46; git -C sub log --format=%s; git submodule foreach -q 'echo $name'"
    )
    identity = ran(pair, outer, shell(listed))
    head = git(tree.main, "rev-parse", "HEAD")
    assert outputs(bob, identity) == [f" {head} sub \nthe-first\nsub\n"]


def test_a_repository_that_is_not_the_pinned_one_is_not_shown_and_that_is_said(pair: Pair, tree: Tree) -> None:
    """What counts is what was granted, not what the worktree's `.git` says at the run."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto", "paths": [str(tree.tree)]}, confirm_unverified=True)
    other = bob.projects / f"other-{os.urandom(4).hex()}"
    git(bob.projects, "clone", "-q", str(tree.main), str(other))
    git(other, "worktree", "add", "-q", f"{tree.tree}-2")
    (tree.tree / ".git").write_text(Path(f"{tree.tree}-2/.git").read_text())
    git(other, "worktree", "repair", str(tree.tree))
    assert git(tree.tree, "rev-parse", "--git-common-dir") == f"{other}/.git"
    identity = ran(pair, tree.tree, shell(f"git log 2>&1; ls -d '{other}' '{tree.main}' 2>&1"))
    assert "not a git repository" in outputs(bob, identity)[0] and "the-first" not in outputs(bob, identity)[0]
    events = bob.client.dispatch(identity)["events"]
    (told,) = [event["detail"] for event in events if event.get("status") == "not_in_view"]
    assert f"{tree.main}/.git" in told and "has changed since it was granted" in told
    there = json.dumps([event for event in alice.client.dispatch(identity)["events"] if "not_in_view" in str(event)])
    assert "main" in there and str(bob.home) not in there


def test_a_grant_of_a_worktree_says_what_joins_and_one_without_shells_gets_nothing(pair: Pair, tree: Tree) -> None:
    alice, bob = pair
    named = {"paths": [str(tree.tree)], "unconfirmed": True}
    asked: Any = bob.client.edit_trust(alice.email, named)
    assert asked["status"] == "confirmation_required"
    assert any(f"{tree.main}/.git" in way and str(tree.tree) in way for way in asked["widens"])
    reading = bob.client.edit_trust(alice.email, {**named, "tools": "Read,Write"})
    assert not any(".git" in way for way in reading["widens"])
    identity = ran(
        pair,
        tree.tree,
        {"tool": "Read", "input": {"file_path": f"{tree.main}/.git/HEAD"}},
        paths=[str(tree.tree)],
        tools="Read,Write",
    )
    assert "outside the folders" in outputs(bob, identity)[0]
    edit = bob.cli("trust", "edit", alice.email, "--tools", "Read,Bash", "--yes-unverified")
    assert edit is not None


@pytest.mark.root
def test_git_obeys_a_granted_folder_that_another_user_owns_and_no_other(pair: Pair, tree: Tree) -> None:
    """Seen to fail without the run's own settings: `detected dubious ownership`."""
    if os.geteuid():
        pytest.skip("only root gives files away")
    bob = pair[1]
    for path in (tree.main, *tree.main.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
        if path.is_dir():
            path.chmod(0o755)
    made = "git init -q /tmp/own && cd /tmp/own && git status >/dev/null && git config --get-all safe.directory"
    identity = ran(pair, tree.main, shell("git log --format=%s; git status --short"), shell(made))
    assert outputs(bob, identity) == ["the-first\n", f"{tree.main}\n"]
