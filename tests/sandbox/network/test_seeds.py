"""A run's caches begin with a part of the person's: the real uv and go work with it, and without a network.

What is shown for npm and cargo is in test_packages.py. A machine without uv or go passes these over.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

import h11
import pytest

from sandbox.confinement.bubblewrap import python
from tests.projects.caches import go_cache
from tests.sandbox.conftest import Person
from tests.sandbox.network.internet import ADDRESS, internet
from tests.sandbox.network.test_packages import REGISTRIES, fetched, offline, registry, seeded, wheel

UV: Final = shutil.which("uv")
GO: Final = shutil.which("go")


@pytest.mark.skipif(UV is None, reason="this machine has no uv")
async def test_a_wheel_that_is_in_the_persons_cache_needs_no_network(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is as uv itself makes it; what it speaks with is a fake of PyPI."""
    uv = Path(str(UV)).resolve()
    monkeypatch.setitem(REGISTRIES, "pip", "https://pypi.org/simple")
    own = person.workspace / "own"
    own.mkdir()
    file = "https://files.pythonhosted.org/p/here-1.0-py3-none-any.whl"
    (own / "pyproject.toml").write_text(
        '[project]\nname="shop"\nversion="1"\nrequires-python=">=3.8"\ndependencies=["here"]\n'
    )
    (own / "uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.8"\n'
        '[[package]]\nname = "here"\nversion = "1.0"\nsource = { registry = "https://pypi.org/simple" }\n'
        f'wheels = [{{ url = "{file}", hash = "sha256:{hashlib.sha256(wheel("here", "1.0")).hexdigest()}" }}]\n'
        '[[package]]\nname = "shop"\nversion = "1"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "here" }]\n'
    )

    async def public(host: str, request: h11.Request) -> tuple[int, bytes]:
        fake = {"pypi.org": "pypi.example.org", "files.pythonhosted.org": "files.example.org"}
        status, body = await registry(fake[host], request)
        return status, body.replace(b"files.example.org", b"files.pythonhosted.org")

    command = f"{uv} sync --frozen -q --python {python()} && .venv/bin/python -m here"
    async with internet({"pypi.org": [ADDRESS], "files.pythonhosted.org": [ADDRESS]}, public) as there:
        wanted = {"pip": {"here": ["1.0"]}}
        done = await fetched(person, there, command, wanted, file_hosts=["files.pythonhosted.org"], runtime=[uv])
    assert done.out == "here 1.0 is here\n", done
    kept = person.base / "home/.cache/uv"
    shutil.copytree(person.workspace / ".cache/uv", kept, symlinks=True)
    for folder in (own / ".venv", person.workspace / ".cache"):
        shutil.rmtree(folder)
    assert (await offline(person, command, runtime=[uv])).code != 0
    assert seeded(person)[-1].endswith(".http")
    done = await offline(person, command, runtime=[uv])
    assert done.out == "here 1.0 is here\n", done
    # An edit in an environment is one in the cache, by a hard link, and nobody else's.
    edited = next(kept.glob("archive-v0/*/here.py"))
    edited.write_text(edited.read_text() + "# secret\n")
    assert seeded(person) == []


@pytest.mark.skipif(GO is None, reason="this machine has no go")
async def test_a_module_that_is_in_the_persons_cache_needs_no_network(person: Person) -> None:
    """The cache is made by hand, from go's documents: no fake can sign for the checksum database."""
    go = Path(str(GO)).resolve()
    root = [] if go.is_relative_to("/usr") else [go.parents[1]]
    own = person.workspace / "own"
    own.mkdir()
    (own / "go.mod").write_text("module shop\n\ngo 1.19\n\nrequire example.com/Ada/adder v1.0.0\n")
    (own / "shop_test.go").write_text(
        'package shop\n\nimport (\n\t"testing"\n\n\t"example.com/Ada/adder"\n)\n\n'
        "func TestAdds(t *testing.T) {\n\tif adder.Add(1, 2) != 3 {\n\t\tt.Fail()\n\t}\n}\n"
    )
    source = "package adder\n\nfunc Add(a, b int) int { return a + b }\n"
    files = {"go.mod": "module example.com/Ada/adder\n\ngo 1.19\n", "adder.go": source}
    whole, mod = go_cache(person.base / "home", "example.com/Ada/adder", "v1.0.0", files)
    sums = f"{whole.name} v1.0.0 {whole.integrity}\n{mod.name} v1.0.0/go.mod {mod.integrity}\n"
    (own / "go.sum").write_text(sums)
    command = f"{go} test -vet=off ./..."
    done = await offline(person, command, runtime=root)
    assert done.code != 0 and "module lookup disabled" in done.out + done.err, done
    assert len(seeded(person)) == 3
    done = await offline(person, command, runtime=root)
    assert done.code == 0 and done.out.startswith("ok "), done
    # go compares what it was given with go.sum: another archive under the same names is refused.
    shutil.rmtree(person.workspace / ".cache")
    archive = person.base / "home/go/pkg/mod/cache/download/example.com/!ada/adder/@v/v1.0.0.zip"
    other = go_cache(person.base / "other", "example.com/Ada/adder", "v1.0.0", {**files, "adder.go": source + "\n"})
    assert other[0].integrity != whole.integrity
    shutil.copy(person.base / "other" / archive.relative_to(person.base / "home"), archive)
    assert len(seeded(person)) == 3
    done = await offline(person, command, runtime=root)
    assert done.code != 0 and "checksum mismatch" in done.out + done.err, done
