"""Projects that are run with toolchains of a manager, tested inside the real sandbox by the real claude program's Bash.

Each is tried without its toolchain first, and then does not work; but for what needs the system's programs alone, which
every run sees. What a manager's folder holds is built from this machine's binaries (layouts.py) where it is not there
as the manager made it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from peer.machine.toolchains.detect import detect
from peer.machine.toolchains.installed import Machine
from peer.machine.toolchains.values import Found
from sandbox.confinement import Profile, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.run import toolchains
from tests.sandbox import layouts
from tests.sandbox.conftest import Done, Person, finish, shell, viewed
from tests.sandbox.fake_model import FakeModel, call, model_proxy, say, serving
from tests.sandbox.test_claude import CLAUDE, INSIDE, SETTINGS, WORDS, results

OWN_RUST = Path.home() / ".rustup/toolchains"
JAVA = Path("/usr/bin/javac")


def machine(person: Person, **env: str) -> Machine:
    return Machine(person.base / "home", env, (person.state,))


def with_toolchains(person: Person, found: Found) -> Profile:
    plain = person.plain
    seen = toolchains.seen(found.frame(), roots=plain.roots, programs=(), protected=plain.protected)
    return replace(plain, runtime=seen.mounts, programs=seen.programs, variables=seen.variables)


async def by_claude(person: Person, profile: Profile, command: str) -> str:
    """What a command says that the claude program's Bash runs."""
    turns = [call("Bash", command=f"cd {person.project} && {command}", description="x", timeout=120_000), say("done")]
    socket = person.workspace.parent / "model.sock"
    profile = replace(profile, runtime=(*profile.runtime, Root(CLAUDE, at=INSIDE)), model_socket=socket)
    with serving(FakeModel(turns)) as model, viewed(profile) as shown:
        async with model_proxy(model.url, "sk-real", budget_usd=5).serving(socket):
            env = {**shown.environment(), **SETTINGS}
            done: Done = await finish(await spawn(shown, [str(INSIDE), *WORDS], env, stdin=subprocess.DEVNULL), 180)
    assert done.code == 0, done.err
    return results(model)


async def without(person: Person, command: str) -> Done:
    """How a command ends that sees nothing but the system's own programs."""
    none = with_toolchains(person, Found())
    return await shell(none, f"cd {person.project} && {command}")


async def test_pytest_in_a_uv_project_with_a_managed_python(person: Person) -> None:
    python = layouts.uv_python(person.base / "home")
    layouts.uv_environment(person.project, python)
    (person.project / "pyproject.toml").write_text("[project]\nname = 'shop'\nversion = '1'\n")
    (person.project / "test_sum.py").write_text(
        f"import sys\ndef test_sum():\n    assert sys.base_prefix.startswith({str(python.parent)!r})\n"
    )
    command = ".venv/bin/python -m pytest -q"
    assert (await without(person, command)).code == 127
    found = detect([person.project], ["auto"], machine(person))
    assert found.labels() == [f"Python {layouts.VERSION}.99 (uv)"] and found.not_seen == ()
    said = await by_claude(person, with_toolchains(person, found), f"{command}; cat {python}/etc/pip.conf")
    assert "1 passed" in said and "hunter2" not in said, said


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="this machine has no Python of its own")
async def test_an_environment_of_the_systems_python(person: Person) -> None:
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", person.project / ".venv"], check=True)
    (site,) = (person.project / ".venv/lib").glob("python*/site-packages")
    layouts.copy_pytest(site)
    (person.project / "test_sum.py").write_text("def test_sum():\n    assert 1 + 1 == 2\n")
    found = detect([person.project], ["auto"], machine(person))
    (label,) = found.labels()
    assert label.endswith("(the system's)") and found.parts() == ()
    said = await by_claude(person, with_toolchains(person, found), ".venv/bin/python -m pytest -q")
    assert "1 passed" in said, said


@pytest.mark.skipif(not Path("/usr/lib/node_modules/npm").exists(), reason="this machine has no npm")
async def test_npm_test_with_a_node_of_nvm(person: Person) -> None:
    root = layouts.nvm_node(person.base / "home")
    (person.project / ".nvmrc").write_text("lts/test\n")
    (person.base / "home/.nvm/alias/lts").mkdir()
    (person.base / "home/.nvm/alias/lts/test").write_text("v99.1.0\n")
    (person.project / "package.json").write_text(json.dumps({"name": "shop", "scripts": {"test": "node test.js"}}))
    (person.project / "test.js").write_text(
        f"require('assert').strictEqual(process.execPath, '{root}/bin/node'); console.log('tests ran')\n"
    )
    assert (await without(person, "npm test")).code == 1
    found = detect([person.project], ["auto"], machine(person))
    assert found.labels() == ["node 99.1.0 (nvm)"] and found.not_seen == ()
    command = f"npm test; which npm; cat {root}/etc/npmrc"
    said = await by_claude(person, with_toolchains(person, found), command)
    assert "tests ran" in said and f"{root}/bin/npm" in said and "hunter2" not in said, said


@pytest.mark.skipif(not any(OWN_RUST.glob("*/bin/cargo")), reason="this machine has no rustup")
async def test_cargo_test_offline_with_a_vendored_crate(person: Person) -> None:
    """The toolchain is rustup's own, as it is installed here; the crate is vendored as `cargo vendor` leaves it."""
    project = person.project
    crate = project / "vendor/adder"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text('[package]\nname = "adder"\nversion = "1.0.0"\nedition = "2021"\n')
    (crate / "src/lib.rs").write_text("pub fn add(a: u32, b: u32) -> u32 { a + b }\n")
    (crate / ".cargo-checksum.json").write_text('{"files":{},"package":null}')
    (project / ".cargo").mkdir()
    (project / ".cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n'
    )
    (project / "Cargo.toml").write_text(
        '[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nadder = "1"\n'
    )
    (project / "src").mkdir()
    (project / "src/lib.rs").write_text("#[test]\nfn adds() { assert_eq!(adder::add(1, 2), 3); }\n")
    assert (await without(person, "cargo test")).code == 127
    found = detect([project], ["auto"], machine(person, RUSTUP_HOME=str(OWN_RUST.parent)))
    (label,) = found.labels()
    assert label.startswith("Rust ") and label.endswith("(rustup)")
    said = await by_claude(person, with_toolchains(person, found), "cargo test 2>&1 | tail -20; echo $CARGO_HOME")
    assert "1 passed" in said and "/dispatch/.cache/cargo" in said, said


@pytest.mark.skipif(layouts.GO is None, reason="this machine has no go")
async def test_go_test_with_a_go_of_its_own_folder(person: Person) -> None:
    root = layouts.go_sdk(person.base / "home")
    (person.project / "go.mod").write_text("module example.org/shop\n\ngo 1.18\n")
    (person.project / "shop_test.go").write_text(
        'package shop\n\nimport (\n\t"runtime"\n\t"testing"\n)\n\nfunc TestRoot(t *testing.T) {\n'
        f'\tif runtime.GOROOT() != "{root}" {{\n\t\tt.Fatal(runtime.GOROOT())\n\t}}\n}}\n'
    )
    assert (await without(person, "go test ./...")).code != 0
    found = detect([person.project], ["auto"], machine(person))
    assert found.labels() == ["Go 1.99.0 (go)"]
    said = await by_claude(person, with_toolchains(person, found), "go test ./... ; du -s /dispatch/.cache/go-build")
    assert "ok" in said and "example.org/shop" in said and "FAIL" not in said and ".cache/go-build" in said, said


@pytest.mark.long
@pytest.mark.skipif(not Path("/etc/java-17-openjdk").exists(), reason="this machine has no Java of Debian's")
async def test_debians_java_starts(person: Person) -> None:
    (person.project / "pom.xml").write_text("<project/>")
    (person.project / "Hello.java").write_text(
        "class Hello { public static void main(String[] a) throws Exception {"
        ' java.security.MessageDigest.getInstance("SHA-256"); System.out.println("java " + "ran"); } }\n'
    )
    java = Path("/usr/bin/java").resolve()
    if not java.is_relative_to("/usr/lib/jvm/java-17-openjdk-amd64"):
        pytest.skip("the Java of this machine is another one")
    assert "java ran" not in (await without(person, "java Hello.java")).out
    found = detect([person.project], ["auto"], machine(person))
    said = await by_claude(person, with_toolchains(person, found), "java Hello.java; ls /etc/java-17-openjdk")
    assert "java ran" in said and "management" not in said, said


async def test_make_with_gcc(person: Person) -> None:
    """Needs nothing but the system: what a run sees in any case."""
    if shutil.which("gcc") is None or shutil.which("make") is None:
        pytest.skip("this machine has no compiler")
    (person.project / "Makefile").write_text("test: shop\n\t./shop\nshop: shop.c\n\tgcc -o $@ $<\n")
    (person.project / "shop.c").write_text('#include <stdio.h>\nint main(void) { puts("tests " "ran"); return 0; }\n')
    found = detect([person.project], ["auto"], machine(person))
    assert found == Found()
    said = await by_claude(person, with_toolchains(person, found), "make test")
    assert "tests ran" in said, said


async def test_a_program_of_ones_own_is_seen_and_a_script_is_not(person: Person) -> None:
    programs = person.base / "home/.local/bin"
    programs.mkdir(parents=True)
    shutil.copy2("/bin/echo", programs / "shout")
    (programs / "deploy").write_text("#!/bin/sh\nexport TOKEN=hunter2\n")
    (programs / "deploy").chmod(0o755)
    found = detect([person.project], ["auto"], machine(person))
    assert found.labels() == ["1 program in ~/.local/bin"]
    said = await by_claude(person, with_toolchains(person, found), f"shout it works; ls {programs}; cat {programs}/*")
    assert "it works" in said and "deploy" not in said and "hunter2" not in said


async def test_nothing_of_a_toolchain_can_be_written(person: Person) -> None:
    python = layouts.uv_python(person.base / "home")
    layouts.uv_environment(person.project, python)
    profile = with_toolchains(person, detect([person.project], ["auto"], machine(person)))
    places = [python / "bin", python.resolve() / "lib", python.parent, person.base / "home"]
    attempts = "; ".join(f"touch {place}/x && echo written {place}; mkdir {place}/y && echo made" for place in places)
    for text in ((await shell(profile, attempts)).out, await by_claude(person, profile, attempts)):
        assert "written /" not in text and "made" not in text.split("\\n"), text
    assert not list(python.rglob("x"))
