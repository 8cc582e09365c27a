# ruff: noqa: PTH101, PTH102, PTH104, PTH116, PTH118, PTH208, PTH211
"""Reading and writing what the edge does not give."""

import os
from typing import Any

from tests.attacks.inside import SHELL, Absent, absent, attack, checked, create, libc, read, syscall, write


@attack("ENOENT")
def state_folder(a: Any) -> None:
    read(f"{a.home}/.dispatch/device.key")


@attack("ENOENT")
def token_of_the_local_api(a: Any) -> None:
    read(f"{a.home}/.dispatch/local.token")


@attack("ENOENT")
def collected_files_and_folder_of_the_run(a: Any) -> None:
    create(f"{a.home}/.dispatch/runs/1/planted")


@attack("ENOENT")
def ssh_key(a: Any) -> None:
    read(f"{a.home}/.ssh/id_ed25519")


@attack("ENOENT")
def history_in_the_home(a: Any) -> None:
    read(f"{a.home}/.bash_history")


@attack("ENOENT")
def home_of_somebody_else(a: Any) -> None:
    read(f"{a.base}/neighbour/diary")


@attack("ENOENT", root_only=True)
def etc_shadow(a: Any) -> None:
    read("/etc/shadow")


@attack("ENOENT")
def machine_id(a: Any) -> None:
    read("/etc/machine-id")


@attack("ENOENT")
def kernel_objects_in_sys(a: Any) -> None:
    os.listdir("/sys/kernel")


@attack("EROFS")
def a_new_folder_at_the_root(a: Any) -> None:
    os.mkdir(f"{a.base}/planted" if a.side == "outside" else "/planted")


@attack("EROFS")
def a_program_of_the_system(a: Any) -> None:
    os.close(os.open(a.system, os.O_TMPFILE | os.O_WRONLY, 0o600))  # leaves nothing, even where it succeeds


@attack("EROFS", shell="EROFS", root_only=True)
def the_shell_of_the_system_overwritten(a: Any) -> None:
    write("/usr/bin/env")


@attack("EROFS", shell="ENOENT")
def the_launcher_of_shells(a: Any) -> None:
    os.chmod(f"{a.system}/shell" if a.side == "outside" else "/run/dispatch/shell", 0o755)


@attack("EROFS", root_only=True)
def a_file_in_etc(a: Any) -> None:
    os.close(os.open("/etc", os.O_TMPFILE | os.O_WRONLY, 0o600))


@attack("EROFS", root_only=True)
def a_file_in_dev(a: Any) -> None:
    os.close(os.open("/dev", os.O_TMPFILE | os.O_WRONLY, 0o600))


@attack("EROFS", root_only=True)
def a_file_in_run(a: Any) -> None:
    os.close(os.open("/run", os.O_TMPFILE | os.O_WRONLY, 0o600))


@attack("ENOENT")
def up_from_the_project(a: Any) -> None:
    os.chdir(a.project)
    read("../../home/.ssh/id_ed25519" if a.side == "outside" else f"..{a.home}/.ssh/id_ed25519")


@attack("ENOENT")
def a_link_out_of_the_project(a: Any) -> None:
    read(f"{a.project}/way-out")


@attack("ENOENT")
def a_new_link_out_of_the_workspace(a: Any) -> None:
    os.symlink(f"{a.home}/.ssh", f"{a.workspace}/s{os.getpid()}")
    read(f"{a.workspace}/s{os.getpid()}/id_ed25519")


@attack("ENOENT")
def a_hard_link_to_the_ssh_key(a: Any) -> None:
    os.link(f"{a.home}/.ssh/id_ed25519", f"{a.workspace}/h{os.getpid()}")


@attack("EXDEV")
def a_hard_link_to_a_program_of_the_system(a: Any) -> None:
    if a.side == "outside":
        os.link(f"{a.home}/.bash_history", f"{a.workspace}/p{os.getpid()}")
    else:
        os.link("/usr/bin/env", f"{a.workspace}/p{os.getpid()}")


@attack("EXDEV")
def an_exchange_of_two_granted_folders(a: Any) -> None:
    os.mkdir(f"{a.folder}/x{os.getpid()}")
    os.rename(f"{a.folder}/x{os.getpid()}", f"{a.project}/x{os.getpid()}")


@attack("EROFS")
def a_folder_that_is_only_read(a: Any) -> None:
    create(f"{a.reading}/new{os.getpid()}")


@attack("EROFS")
def the_project_renamed_away(a: Any) -> None:
    os.rename(a.project, a.project + "-gone")
    os.rename(a.project + "-gone", a.project)


@attack("EPERM")
def a_setuid_file(a: Any) -> None:
    path = f"{a.project}/suid{os.getpid()}"
    create(path)
    os.chmod(path, 0o4755)


@attack("EPERM")
def a_setuid_file_without_a_name_yet(a: Any) -> None:
    handle = os.open(a.project, os.O_TMPFILE | os.O_RDWR, 0o4755)
    path = f"{a.project}/t{os.getpid()}"
    checked(libc().linkat(-100, f"/proc/self/fd/{handle}".encode(), -100, path.encode(), 0x400), "linkat")
    if not os.stat(path).st_mode & 0o4000:
        raise Absent("no setuid bit")


@attack("EPERM", root_only=True)
def a_device_node(a: Any) -> None:
    os.mknod(f"{a.project}/dev{os.getpid()}", 0o20600, os.makedev(1, 1))


@attack("EPERM", root_only=True)
def file_capabilities(a: Any) -> None:
    path = f"{a.project}/cap{os.getpid()}"
    create(path)
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))


@attack("ENOSYS", root_only=True)
def opening_by_handle(a: Any) -> None:
    import ctypes

    handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
    handle[0] = b"\x80"
    syscall("name_to_handle_at", -100, os.fsencode(a.base), handle, ctypes.byref(mount), 0)
    where = os.open(a.base, os.O_RDONLY)
    os.close(syscall("open_by_handle_at", where, handle, os.O_RDONLY))


@attack("EROFS", places=(SHELL,))
def the_settings_of_the_agent_program(a: Any) -> None:
    write(f"{a.agent_home}/.claude.json")


@attack("EROFS", places=(SHELL,))
def a_new_file_in_the_home_of_the_agent(a: Any) -> None:
    create(f"{a.agent_home}/planted{os.getpid()}")


@attack("EROFS", places=(SHELL,))
def the_home_of_the_agent_by_its_root_in_proc(a: Any) -> None:
    create(f"/proc/self/root{a.agent_home}/planted{os.getpid()}")


@attack("EROFS", places=(SHELL,))
def truncating_a_file_of_the_agent(a: Any) -> None:
    os.truncate(f"{a.agent_home}/.claude.json", 2)


@attack("EROFS", places=(SHELL,))
def renaming_a_file_of_the_agent(a: Any) -> None:
    os.rename(f"{a.agent_home}/.claude.json", f"{a.agent_home}/.claude.gone")
    os.rename(f"{a.agent_home}/.claude.gone", f"{a.agent_home}/.claude.json")


@attack("absent")
def any_folder_that_should_not_be_writable(a: Any) -> str:
    """Everything there is, walked through."""
    if a.side == "outside":
        starts = [f"{a.base}/neighbour", f"{a.home}/folder"]
        mine: tuple[str, ...] = ()
    else:
        starts = ["/"]
        mine = (a.project, a.folder, a.workspace, a.shell_home, a.agent_home, a.tmp, a.shm, "/dev/pts")
    found = []
    for start in starts:
        for folder, names, _ in os.walk(start):
            names[:] = [
                name
                for name in names
                if os.path.join(folder, name) not in (*mine, "/proc", "/usr/share", "/usr/lib", "/usr/include")
            ]
            if os.access(folder, os.W_OK):
                found.append(folder)
    if not found:
        absent("none")
    return " ".join(found)
