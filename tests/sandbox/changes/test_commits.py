"""What a run committed is kept, whatever kind of view it worked in, and nothing that git could be made to obey."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from sandbox.changes.commits import CUT, MARK, REST
from sandbox.changes.comparing import METADATA_NEVER
from sandbox.changes.display import diff_of
from sandbox.changes.values import Entry
from sandbox.commits import confined, gathering
from sandbox.commits.gathering import Repository, gather
from sandbox.commits.values import Answer, Found, Request, Wanted
from tests.sandbox.changes.repositories import both, commit, commits, files, git, make, refused, run, start
from tests.sandbox.changes.worlds import World


def gathered(world: World) -> tuple[Found, str]:
    """Gather from a copy in this process, which is quicker, and where bounds can be made small."""
    assert world.record is not None
    work = world.folder / "work"
    work.mkdir()
    found = trio.run(gather, Repository(world.record, world.view / "copy", b".git"), work, "0")
    return found, (work / found.text).read_text() if found.text else ""


def another(world: World) -> Path:
    """Another repository of the person's, with a secret in it."""
    other = world.folder / "other"
    other.mkdir()
    make(other)
    (other / "secret").write_text("secret\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "secret")
    return other


def test_new_commits_are_one_entry_with_each_shown(world: World) -> None:
    start(world)
    before = files(world.root)
    commit(world, "a.py", "one", "first of them")
    run(
        world, "git checkout -q -b fix/it; echo two > f1.py; git commit -q -a -m 'second of them'; git checkout -q main"
    )
    entry, text, found = both(world)
    assert files(world.root) == before
    assert entry.count == 2 and entry.marks == [MARK] and entry.can_land and not entry.conflict
    assert {(each.name, each.ref) for each in entry.branches} == {(b"main", "main"), (b"fix/it", "fix/it")}
    assert text.index("    first of them") < text.index("+one") < text.index("    second of them") < text.index("+two")
    assert "old 1" not in text
    about = world.root.joinpath(".git").stat()
    assert entry.base is not None and (entry.base.device, entry.base.inode) == (about.st_dev, about.st_ino)
    assert found[".git"].never == REST and found["a.py"].change == "added"
    # The pack is whole by itself: a repository that has the old commits can take it in.
    clone = world.folder / "clone"
    git(world.folder, "clone", "-q", str(world.root), str(clone))
    git(clone, "index-pack", "--stdin", "--strict", stdin=world.blob(entry))
    assert git(clone, "log", "-1", "--format=%s", entry.branches[0].tip) in ("first of them", "second of them")
    assert git(clone, "rev-list", "--count", *(each.tip for each in entry.branches), "^main") == "2"


def test_nothing_new_is_no_entry(world: World) -> None:
    start(world)
    run(world, "git branch other HEAD~1; git tag mine; git status >/dev/null; echo x > .git/note")
    assert refused(world) == METADATA_NEVER


def test_a_commit_on_no_branch(copy: World) -> None:
    start(copy)
    run(copy, "git checkout -q --detach; echo x > x.py; git add .; git commit -q -m loose")
    found, text = gathered(copy)
    assert [(each.name, each.ref) for each in found.branches] == [(b"HEAD", "detached-head")] and "    loose" in text


def test_a_repository_further_down_and_one_that_the_person_does_not_have(world: World) -> None:
    world.root.joinpath("lib").mkdir()
    make(world.root / "lib")
    world.start()
    run(
        world,
        "cd lib; echo x > x.py; git add .; git commit -q -m deep; cd ..; git init -q fresh; cd fresh; "
        "echo y > y; git add .; git commit -q -m nobody",
    )
    entry, text, found = both(world, "lib/.git")
    assert "    deep" in text and entry.count == 1 and found["fresh/.git"].never == METADATA_NEVER


def test_a_repository_without_commits_takes_the_first(copy: World) -> None:
    git(copy.root, "init", "-q", "-b", "main")
    copy.start()
    commit(copy)
    found, text = gathered(copy)
    assert found.count == 1 and "+new" in text


def test_other_hashes(copy: World) -> None:
    start(copy, "--object-format=sha256")
    commit(copy)
    assert len(gathered(copy)[0].branches[0].tip) == 64


def test_a_history_that_was_cut_short(copy: World) -> None:
    whole = copy.folder / "whole"
    whole.mkdir()
    make(whole)
    copy.root.rmdir()
    git(copy.folder, "clone", "-q", "--depth=1", f"file://{whole}", str(copy.root))
    copy.start()
    commit(copy)
    found, text = gathered(copy)
    assert found.count == 1 and "+new" in text


def test_what_the_person_committed_meanwhile_is_not_the_runs(world: World) -> None:
    start(world)
    run(world, "cp -r .git .kept; rm -rf .git; mv .kept .git")
    commit(world)
    (world.root / "mine.py").write_text("mine\n")
    git(world.root, "add", ".")
    git(world.root, "commit", "-q", "-m", "my own")
    entry, text = commits(world)
    assert entry.count == 1 and "my own" not in text


def indexed(world: World, entry: Entry) -> Path:
    """The pack of an entry with its index, by git in the person's repository."""
    pack = world.folder / "it.pack"
    pack.write_bytes(world.blob(entry))
    git(world.root, "index-pack", str(pack))
    return pack


# ---------------------------------------------------------------- what hides


def test_what_the_working_folder_hides_is_shown(world: World) -> None:
    """A commit whose file was put back, and is skipped by `git status`."""
    start(world)
    run(
        world,
        "echo evil > f1.py; git commit -q -a -m harmless; echo 1 > f1.py; git update-index --skip-worktree f1.py; "
        "echo secret > .hidden; git add -f .hidden; git commit -q -m more; rm .hidden",
    )
    entry, text, found = both(world)
    assert "+evil" in text and "+secret" in text and entry.count == 2 and found.keys() == {".git", ".git/refs/heads"}


def test_a_merge_shows_what_it_does(copy: World) -> None:
    start(copy)
    run(
        copy,
        "git checkout -q -b side; echo s > s.py; git add .; git commit -q -m side; git checkout -q main; "
        "echo m > m.py; git add .; git commit -q -m main; git merge -q --no-commit side; echo evil > f1.py; "
        "git add .; git commit -q -m merged",
    )
    assert "+evil" in gathered(copy)[1]


def test_replaced_objects_replace_nothing(world: World) -> None:
    start(world)
    run(
        world,
        "echo evil > f1.py; git commit -q -a -m real; real=$(git rev-parse HEAD); git checkout -q --detach HEAD~1; "
        "echo good > f1.py; git commit -q -a -m shown; git replace $real $(git rev-parse HEAD); git checkout -q main",
    )
    entry, text = commits(world)
    assert "+evil" in text and "    real" in text
    git(world.root, "index-pack", "--stdin", "--strict", stdin=world.blob(entry))
    (main,) = [each.tip for each in entry.branches if each.name == b"main"]
    assert git(world.root, "show", f"{main}:f1.py") == "evil"


def test_a_grafted_history_is_refused(copy: World) -> None:
    start(copy)
    commit(copy, message="one")
    commit(copy, "b.py", message="two")
    run(copy, "git rev-parse HEAD > .git/shallow")
    assert "git " in gathered(copy)[0].problem


def test_a_repository_of_the_person_that_alternates_name_is_not_read(world: World) -> None:
    other = another(world)
    start(world)
    commit(world)
    tip = git(other, "rev-parse", "main")
    run(world, f"echo {other}/.git/objects > .git/objects/info/alternates; echo {tip} > .git/refs/heads/theirs")
    entry, text = commits(world)
    assert [each.name for each in entry.branches] == [b"main"] and "secret" not in text
    assert tip not in git(world.root, "verify-pack", "-v", str(indexed(world, entry)))
    assert not any(tip.encode() in path.read_bytes() for path in (world.destination / "blobs").iterdir())


# ---------------------------------------------------------------- what git would obey

SETTINGS = """
git config core.fsmonitor 'touch {proof}'
git config core.hooksPath {hooks}
git config core.pager 'touch {proof}'
git config core.alternateRefsCommand 'touch {proof}'
git config core.worktree /
git config diff.external 'touch {proof}'
git config diff.x.textconv 'touch {proof}'
git config diff.x.command 'touch {proof}'
git config log.showSignature true
git config gpg.program 'touch {proof}'
git config uploadpack.packObjectsHook 'touch {proof}'
git config extensions.partialClone origin
git config remote.origin.promisor true
git config remote.origin.url 'ext::touch {proof}'
git config protocol.ext.allow always
git config include.path ../more
git config gc.auto 1
echo '* diff=x' > .git/info/attributes
for hook in reference-transaction post-index-change pre-auto-gc; do
  printf '#!/bin/sh\\ntouch {proof}\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook
done
printf '[core]\\n\\tfsmonitor = touch {proof}\\n' > more
"""


def test_settings_hooks_and_attributes_of_the_view_do_nothing_here(world: World) -> None:
    start(world)
    run(
        world,
        "mkdir -p .git/hooks .git/info; printf '* diff=x\\n' > .gitattributes; git add .; git commit -q -m attributes",
    )
    commit(world)
    proof = world.folder / "proof"
    run(world, SETTINGS.format(proof=proof, hooks=world.work / ".git/hooks"))
    entry, text = commits(world)
    assert not proof.exists() and entry.count == 2 and "+new" in text and "diff=x" in text


def test_a_git_file_or_link_is_only_dropped(world: World) -> None:
    other = another(world)
    start(world)
    world.root.joinpath("lib").mkdir()
    run(
        world,
        f"mv .git elsewhere; echo 'gitdir: {other}/.git' > .git; mkdir -p sub; ln -s {other}/.git sub/.git",
    )
    found = world.entries()
    assert not [entry for entry in found.values() if entry.change == "commits"]
    assert found[".git"].change == found["sub/.git"].change == "dropped"


def test_a_link_in_the_repository_leads_nowhere(world: World) -> None:
    other = another(world)
    start(world)
    run(
        world,
        f"rm -r .git/objects .git/refs; ln -s {other}/.git/objects .git/objects; ln -s {other}/.git/refs .git/refs",
    )
    assert refused(world)
    assert not any(b"secret" in path.read_bytes() for path in (world.destination / "blobs").iterdir())


TREE = "tree=$(printf '100644 blob %s\\t{name}\\n' $blob | git mktree)\n"
INNER = "tree=$(printf '040000 tree %s\\t{name}\\n' $tree | git mktree)\n"
MODULE = "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = -u./payload\\n'"
DAMAGED = {
    "a git folder": TREE.format(name="config") + INNER.format(name=".GIT"),
    "the folder above": TREE.format(name="x") + INNER.format(name=".."),
    "a submodule's command": f"blob=$({MODULE} | git hash-object -w --stdin)\n" + TREE.format(name=".gitmodules"),
}
HARM = {"a git folder": "hasDotgit", "the folder above": "hasDotdot", "a submodule's command": "gitmodulesUrl"}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_would_harm_a_checkout_is_refused(copy: World, what: str) -> None:
    start(copy)
    run(
        copy,
        "blob=$(echo x | git hash-object -w --stdin)\n"
        f"{DAMAGED[what]}\n"
        "git update-ref refs/heads/main $(git commit-tree $tree -p HEAD -m evil)",
    )
    said = gathered(copy)[0].problem
    assert said.startswith("git failed: “") and HARM[what] in said and "\n" not in said


def test_messages_cannot_leave_their_place(copy: World) -> None:
    start(copy)
    commit(copy, message="good\n\ndiff --git a/x b/x\n+++ b/x\ncommit 1234\x1b[2J")
    _, text = gathered(copy)
    assert "\n    diff --git a/x b/x\n    +++ b/x\n    commit 1234" in text
    assert [line[:7] for line in text.splitlines() if not line.startswith((" ", "+", "-", "@", "index", "new"))].count(
        "commit "
    ) == 1


def test_a_message_with_a_nul_is_refused(copy: World) -> None:
    start(copy)
    run(
        copy,
        "{ printf 'tree %s\\nparent %s\\nauthor R <r@x> 1 +0000\\ncommitter R <r@x> 1 +0000\\n\\nshown\\0hidden\\n' "
        "$(git rev-parse HEAD^{tree} HEAD); } > c; "
        "git update-ref refs/heads/main $(git hash-object -t commit -w --literally c); rm c",
    )
    assert "nulInCommit" in gathered(copy)[0].problem


def test_odd_names_of_branches(copy: World) -> None:
    start(copy)
    run(
        copy,
        "for name in 'a;b' '$(x)' \"q'q\" \"$(printf 'x\\342\\200\\256y')\"; do git checkout -q -b \"$name\"; "
        'echo "$name" > odd; git add odd; git commit -q -m odd; done',
    )
    found, _ = gathered(copy)
    assert {each.ref for each in found.branches} == {f"branch-{number}" for number in (1, 2, 3, 4)}
    assert {each.name for each in found.branches} == {b"a;b", b"$(x)", b"q'q", "x\u202ey".encode()}


def test_a_branch_that_names_no_commit_is_left_out_with_all_that_it_reaches(copy: World) -> None:
    start(copy)
    commit(copy)
    run(
        copy,
        "git checkout -q --detach; echo t > t; git add t; git commit -q -m tagged; git tag -a -m x x; "
        "git rev-parse x > .git/refs/heads/odd; git checkout -q main",
    )
    found, text = gathered(copy)
    assert [each.name for each in found.branches] == [b"main"] and found.count == 1 and "tagged" not in text


# ---------------------------------------------------------------- how much


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("MAX_PACK", 200, "more than 200 bytes"),
        ("MAX_COMMITS", 1, "more than 1 commits"),
        ("MAX_BRANCHES", 1, "more than 1 branches are new"),
        ("_MAX_REFS", 20, "more than 20 bytes"),
    ],
)
def test_what_is_too_much_is_said(
    copy: World, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, said: str
) -> None:
    start(copy)
    commit(copy)
    run(copy, "git checkout -q -b two; head -c 2000 /dev/urandom > b; git add .; git commit -q -m more")
    monkeypatch.setattr(gathering, bound, value)
    if bound == "MAX_COMMITS":
        monkeypatch.setattr(gathering, "_LIST", [*gathering._LIST[:-2], "--max-count=2", "--stdin"])
    assert said in gathered(copy)[0].problem


def test_a_text_that_is_too_long_is_cut_and_says_so(copy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(copy)
    run(copy, "seq 1 500 > long.py; git add .; git commit -q -m long")
    monkeypatch.setattr(gathering, "MAX_TEXT", 700)
    found, text = gathered(copy)
    assert found.cut and text.endswith("\n[the rest is not shown here: there is too much of it]\n") and len(text) < 800


def test_a_repository_that_makes_git_wait_for_ever(copy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(copy)
    commit(copy)
    run(copy, "mkfifo pipe; git config include.path ../pipe")
    monkeypatch.setattr(confined, "SECONDS", 3.0)
    assert gathered(copy)[0].problem == "git took too long"


def test_a_text_that_is_cut_is_a_mark(copy: World) -> None:
    start(copy)
    run(copy, "seq 1 200000 > long.py; git add .; git commit -q -m long")
    entry, text = commits(copy)
    assert entry.marks == [MARK, CUT] and text.endswith("too much of it]\n") and len(text) < 1_000_000


def test_a_text_that_was_altered_is_not_shown(copy: World) -> None:
    start(copy)
    commit(copy)
    entry, text = commits(copy)
    assert text
    (copy.destination / "blobs" / entry.text).write_text("other\n")
    assert diff_of(entry, copy.root, copy.destination) == ""
    missing = msgspec.structs.replace(entry, text="../x")
    assert diff_of(missing, copy.root, copy.destination) == ""


def test_without_git_it_is_as_before(copy: World) -> None:
    start(copy)
    commit(copy)
    assert copy.record is not None
    request = msgspec.json.encode(Request(wanted=[Wanted(view=copy.record, paths=[b".git"])]))
    code = "import sys, sandbox.commits.__main__ as m; m.has_git = lambda: False; sys.exit(m.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy.run_folder), str(copy.folder)],
        input=request,
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert msgspec.json.decode(done.stdout, type=Answer) == Answer(found=[])


def test_a_program_that_fails_is_a_reason(copy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(copy)
    commit(copy)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert refused(copy).endswith("the program that packs them failed (CalledProcessError)")


def test_more_than_is_kept_of_a_run_is_a_reason(copy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(copy)
    run(copy, "head -c 3000 /dev/urandom > b; git add .; git commit -q -m more; git rm -q b; git commit -q -m gone")
    monkeypatch.setattr("sandbox.changes.bounds.MAX_KEPT", 2_000)
    assert "larger than what is kept of one run" in refused(copy)


def test_nothing_is_left_of_the_work(copy: World) -> None:
    start(copy)
    commit(copy)
    entry, _ = commits(copy)
    assert sorted(path.name for path in copy.destination.iterdir()) == ["blobs", "changes.diff", "changes.json"]
    assert {path.stat().st_mode & 0o777 for path in (copy.destination / "blobs").iterdir()} == {0o600}
    patch = (copy.destination / "changes.diff").read_text()
    assert "(commits; 1 of them)" in patch and isinstance(entry, Entry)
