"""Which language a file is shown in: a closed table, by its name or its first line. Pure.

Pygments knows five hundred, chosen by whatever a name ends with. These few are what projects are made of.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

_ENDINGS: Final = {
    "python": "py pyi pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts tsx",
    "json": "json webmanifest",
    "html": "html htm xhtml vue svelte",
    "xml": "xml svg xsd xslt plist",
    "css": "css",
    "scss": "scss",
    "less": "less",
    "markdown": "md markdown",
    "rst": "rst",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf editorconfig",
    "bash": "sh bash zsh",
    "fish": "fish",
    "powershell": "ps1",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp hxx",
    "objective-c": "m",
    "csharp": "cs",
    "java": "java",
    "kotlin": "kt kts",
    "groovy": "groovy gradle",
    "scala": "scala",
    "swift": "swift",
    "go": "go",
    "rust": "rs",
    "zig": "zig",
    "ruby": "rb rake gemspec",
    "perl": "pl pm",
    "php": "php",
    "lua": "lua",
    "r": "r",
    "julia": "jl",
    "haskell": "hs",
    "ocaml": "ml mli",
    "elixir": "ex exs",
    "erlang": "erl hrl",
    "clojure": "clj cljs edn",
    "dart": "dart",
    "nix": "nix",
    "sql": "sql",
    "terraform": "tf tfvars hcl",
    "protobuf": "proto",
    "graphql": "graphql gql",
    "cmake": "cmake",
    "make": "mk mak",
    "docker": "dockerfile",
    "diff": "diff patch",
    "tex": "tex sty",
    "batch": "bat cmd",
}
_NAMES: Final = {
    "Makefile": "make",
    "GNUmakefile": "make",
    "makefile": "make",
    "Dockerfile": "docker",
    "Containerfile": "docker",
    "CMakeLists.txt": "cmake",
    "Gemfile": "ruby",
    "Rakefile": "ruby",
    "BUILD": "python",
    "WORKSPACE": "python",
    "PKGBUILD": "bash",
    ".bashrc": "bash",
    ".profile": "bash",
    ".zshrc": "bash",
}
_PROGRAMS: Final = {
    "python": "python",
    "python3": "python",
    "sh": "bash",
    "bash": "bash",
    "dash": "bash",
    "zsh": "bash",
    "node": "javascript",
    "perl": "perl",
    "ruby": "ruby",
    "php": "php",
    "lua": "lua",
}
_BY_ENDING: Final = {ending: language for language, endings in _ENDINGS.items() for ending in endings.split()}
LANGUAGES: Final = frozenset(_ENDINGS)
"""Their names, as Pygments has them."""


def language_of(name: str, text: str) -> str | None:
    """Return the language of a file by its name, else by the program that its first line names; None for no known."""
    known = _NAMES.get(name) or _BY_ENDING.get(PurePosixPath(name).suffix.lstrip(".").lower())
    if known or not text.startswith("#!"):
        return known
    words = text[2:200].partition("\n")[0].split()
    programs = [PurePosixPath(word).name for word in words if not word.startswith("-")]
    return next((_PROGRAMS[each] for each in programs[:2] if each in _PROGRAMS), None)
