"""Kinds of files by their names, in small letters: which are only text for people or source, and why others are not.

Only PROSE, SOURCE and BARE let a file be unmarked (marks.py). The other lists explain a mark. Pure.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PROSE: Final = frozenset([".md", ".markdown", ".rst", ".adoc", ".txt", ".tex", ".bib", ".csv", ".tsv", ".po"])
SOURCE: Final = _words(
    """
    .py .pyi .js .mjs .cjs .jsx .ts .mts .cts .tsx .vue .svelte .css .scss .less .html .htm .go .rs .c .h .cc .cpp
    .cxx .hh .hpp .java .kt .scala .swift .m .cs .fs .vb .rb .php .ex .erl .hrl .hs .ml .mli .clj .cljs .lua .jl
    .r .dart .zig .nim .sql .proto .graphql .glsl .wgsl
    """
)
"""Ends of names, in small letters, that are put in place together with others."""
BARE: Final = _words(
    """
    readme license licence copying notice authors contributors changelog changes news todo
    """
)
"""The same for names without an end."""
LOADED: Final = _words(
    """
    conftest.py sitecustomize.py usercustomize.py setup.py ez_setup.py versioneer.py noxfile.py tasks.py
    fabfile.py dodo.py pavement.py manage.py conf.py conanfile.py hatch_build.py build.py wscript.py locustfile.py
    settings.py local_settings.py wsgi.py asgi.py __main__.py gulpfile.js gruntfile.js jakefile.js build.rs
    build.zig package.swift build.kt mix.ex rakefile.rb autoload.php agents.md agents.override.md claude.md
    claude.local.md gemini.md skill.md copilot-instructions.md conventions.md requirements.txt constraints.txt
    cmakelists.txt runtime.txt
    """
)
"""Names, in small letters, that a program obeys because they are there."""
LOADED_LIKE: Final = (
    "*.config.*",
    "*.conf.*",
    "*.setup.*",
    "*.workspace.*",
    "*.gradle*",
    "*rc.js",
    "*rc.cjs",
    "*rc.mjs",
    "*file.js",
    "*file.ts",
    "*file.py",
    "*file.rb",
    "*_config.py",
    "*_helper.rb",
    "pytest_*.py",
    "*requirements*.txt",
    "constraints*.txt",
    "setup*.js",
    "setup*.ts",
)
SETTINGS: Final = _words(
    """
    .json .jsonc .json5 .yaml .yml .toml .ini .cfg .conf .xml .plist .properties .env .lock .service .timer
    .socket .desktop .gradle .kts .sbt .exs .cmake .mk .mak .gemspec .podspec .csproj .props .targets .sln .pth
    .gyp .gypi .ninja .bazel .bzl .nix .tf .hcl .dockerfile .editorconfig
    """
)
SCRIPTS: Final = _words(
    """
    .sh .bash .zsh .fish .ksh .csh .ps1 .psm1 .bat .cmd .pl .awk .tcl .vbs .applescript
    """
)
BUILD: Final = _words(
    """
    makefile gnumakefile bsdmakefile dockerfile containerfile jenkinsfile vagrantfile procfile rakefile gemfile
    podfile brewfile justfile taskfile earthfile tiltfile build workspace sconstruct sconscript wscript cakefile
    guardfile fastfile caddyfile kconfig configure meson.build go.mod go.work cargo.toml package.json
    pyproject.toml
    """
)
OBEYED_FOLDERS: Final = _words(
    """
    agents commands skills hooks prompts rules plugins workflows githooks
    """
)
"""Folders whose texts are instructions to agents, or hooks."""
