# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH110, PTH112
"""Names that make this machine run or trust something later: git, editors, agents, start-up files."""

import os
import shutil
from typing import Any

from tests.attacks.inside import attack, create, write

IN_VIEW = "reached|EEXIST|ENOENT|EXDEV"
"""It may happen in the run's view, once (a second time something is there or gone already; an overlay has no folder of
the original renamed). test_attacks.py shows that the originals stay as they are.
"""


@attack(IN_VIEW)
def a_hook_of_git(a: Any) -> None:
    create(f"{a.project}/.git/hooks/pre-commit")


@attack(IN_VIEW)
def settings_of_git(a: Any) -> None:
    write(f"{a.project}/.git/config")


@attack(IN_VIEW)
def the_head_of_git(a: Any) -> None:
    write(f"{a.project}/.git/HEAD")


@attack(IN_VIEW)
def git_redirected_by_commondir(a: Any) -> None:
    create(f"{a.project}/.git/commondir")


@attack(IN_VIEW)
def git_moved_and_copied_back(a: Any) -> None:
    os.rename(f"{a.project}/.git", f"{a.project}/g2")
    shutil.copytree(f"{a.project}/g2", f"{a.project}/.git")
    shutil.rmtree(f"{a.project}/g2")


@attack(IN_VIEW)
def git_exchanged_with_another(a: Any) -> None:
    """renameat2 with RENAME_EXCHANGE, which needs no free name."""
    import ctypes

    os.mkdir(f"{a.project}/other{os.getpid()}")
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(f"{a.project}/other{os.getpid()}"), os.fsencode(f"{a.project}/.vscode")
    for _ in range(2):
        if library.renameat2(-100, names[0], -100, names[1], 2) < 0:
            raise OSError(ctypes.get_errno(), "renameat2")


@attack(IN_VIEW)
def a_folder_above_git_moved(a: Any) -> None:
    os.rename(f"{a.project}/deep", f"{a.project}/d{os.getpid()}")
    os.rename(f"{a.project}/d{os.getpid()}", f"{a.project}/deep")


@attack(IN_VIEW)
def settings_of_a_repository_further_down(a: Any) -> None:
    write(f"{a.project}/deep/er/.git/config")


@attack(IN_VIEW)
def git_in_other_letters(a: Any) -> None:
    create(f"{a.project}/upper/.GIT/config")


@attack(IN_VIEW)
def a_hard_link_to_settings_of_git(a: Any) -> None:
    os.link(f"{a.project}/deep/er/.git/config", f"{a.project}/l{os.getpid()}")


@attack(IN_VIEW)
def permissions_of_settings_of_git(a: Any) -> None:
    os.chmod(f"{a.project}/deep/er/.git/config", 0o666)


@attack(IN_VIEW)
def a_server_for_agents(a: Any) -> None:
    write(f"{a.project}/.mcp.json")


@attack(IN_VIEW)
def a_server_for_agents_by_renaming(a: Any) -> None:
    create(f"{a.project}/m{os.getpid()}")
    os.rename(f"{a.project}/m{os.getpid()}", f"{a.project}/.mcp.json")


@attack(IN_VIEW)
def a_hook_for_the_next_agent(a: Any) -> None:
    create(f"{a.project}/.claude/settings.json")


@attack(IN_VIEW)
def a_folder_of_an_editor_replaced(a: Any) -> None:
    os.rename(f"{a.project}/.idea", f"{a.project}/i{os.getpid()}")
    os.mkdir(f"{a.project}/.idea")


@attack(IN_VIEW)
def a_task_of_an_editor(a: Any) -> None:
    write(f"{a.project}/.vscode/tasks.json")


@attack(IN_VIEW)
def a_configuration_of_another_editor(a: Any) -> None:
    create(f"{a.project}/.idea/workspace.xml")


@attack(IN_VIEW)
def variables_of_a_folder(a: Any) -> None:
    write(f"{a.project}/deep/.envrc")


@attack(IN_VIEW)
def start_of_a_shell(a: Any) -> None:
    os.unlink(f"{a.project}/.bashrc")


@attack(IN_VIEW)
def instructions_for_agents(a: Any) -> None:
    write(f"{a.project}/CLAUDE.md")


@attack(IN_VIEW)
def instructions_for_agents_further_down(a: Any) -> None:
    write(f"{a.project}/deep/AGENTS.md")


@attack(IN_VIEW)
def instructions_for_agents_replaced(a: Any) -> None:
    _put(a, "CLAUDE.md")


@attack(IN_VIEW)
def servers_of_an_agent(a: Any) -> None:
    write(f"{a.project}/deep/.cursor/mcp.json")


@attack(IN_VIEW)
def settings_of_a_package_tool(a: Any) -> None:
    write(f"{a.project}/deep/.npmrc")


@attack(IN_VIEW)
def settings_of_an_editor_that_runs_them(a: Any) -> None:
    write(f"{a.project}/deep/.nvim.lua")


def _put(a: Any, name: str) -> None:
    """Get a file or a folder to that name, which is missing."""
    made = f"{a.project}/p{os.getpid()}"
    if name in NEW_FOLDERS:
        os.mkdir(made)
    else:
        create(made)
    try:
        os.rename(made, f"{a.project}/{name}")
    finally:
        if os.path.isdir(made):
            os.rmdir(made)
        elif os.path.exists(made):
            os.unlink(made)


# What the project does not have, and the host would act on if it had.
NEW_FOLDERS = (".codex", ".cursor", ".devcontainer", ".gemini", ".husky")
NEW_FILES = (
    ".cursorrules",
    ".envrc",
    ".exrc",
    ".npmrc",
    ".nvim.lua",
    ".pre-commit-config.yaml",
    ".yarnrc.yml",
    "AGENTS.md",
    "CLAUDE.local.md",
    "GEMINI.md",
)


def _new(name: str) -> None:
    def attempt(a: Any) -> None:
        _put(a, name)

    attempt.__name__ = f"a_new_{name}"
    attack(IN_VIEW)(attempt)


for _name in (*NEW_FOLDERS, *NEW_FILES):
    _new(_name)


@attack("EROFS")
def the_launcher_replaced(a: Any) -> None:
    if a.side == "outside":
        create(f"{a.system}/shell.new")
    else:
        create("/run/dispatch/shell.new")
