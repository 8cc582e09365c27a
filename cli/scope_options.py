"""The flags of a scope, for `accept-invitation` and `trust edit`, and the confirmation of powerful grants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click

from cli.durations import Duration
from cli.output import Output, interactive, string
from cli.prompts import confirm
from peer.client.blocking import Document
from peer.protocol.errors import Forbidden, Invalid

F = TypeVar("F", bound=Callable[..., object])

NAMES = (
    *("tools", "mcp_servers", "paths", "approval", "max_per_day", "expires", "results", "apply"),
    *("toolchains", "network"),
)
BUDGET = ("minutes", "turns", "usd")
MB = 1024 * 1024


def scope_options(command: F) -> F:
    """Add the flags of a scope to a command. A flag that is not given is None."""
    options = [
        click.option("--tools", metavar="A,B", help="Tools to allow, out of Read, Glob, Grep, Write, Edit, Bash."),
        click.option(
            "--mcp-servers", metavar="*|none|A,B", help="MCP servers to allow; * means all that are installed now."
        ),
        click.option(
            "--paths",
            metavar="DIR,DIR",
            help="Folders to restrict runs to; none: the folder that you confirm at each accept.",
        ),
        click.option(
            "--approval",
            type=click.Choice(["manual", "review", "auto"]),
            help="manual: you answer each call. review: you look at the result before it is sent. auto: neither.",
        ),
        click.option(
            "--max-per-day", type=click.IntRange(1, 1000), metavar="N", help="Dispatches allowed in 24 hours."
        ),
        click.option(
            "--expires",
            metavar="WHEN",
            help="When the trust edge ends: 30m, 12h, 30d, 8w, seconds, 2027-01-31 or never.",
        ),
        click.option(
            "--results",
            type=click.Choice(["full", "redacted"]),
            help="full: the sender gets the whole trace. redacted: only the size and outcome of each call.",
        ),
        click.option(
            "--apply",
            type=click.Choice(["review", "auto"]),
            help="review: a run's changes wait for you. auto: unmarked changes are applied when it completes.",
        ),
        click.option(
            "--toolchains",
            metavar="auto|none|PATH,…",
            help="What runs see besides the system's programs: the toolchains found for the project (auto), none, or "
            "the paths given. default: what the setting `toolchains` says.",
        ),
        click.option(
            "--network",
            metavar="none|packages|HOST[:PORT],…",
            help="What runs can reach: hosts, over HTTPS; packages that lock files name (packages), or any-packages. "
            "A run can send a host anything that it can read.",
        ),
        click.option(
            "--minutes",
            type=Duration(1, 1440, unit="m"),
            metavar="N|2h",
            help="Minutes that one run may take: 90, 90m, 2h.",
        ),
        click.option("--turns", type=click.IntRange(1, 1000), metavar="N", help="Agent turns that one run may take."),
        click.option(
            "--usd", type=click.FloatRange(0.01, 1000), metavar="AMOUNT", help="What the model may cost in one run."
        ),
        click.option(
            "--output-mb", type=click.IntRange(0, 250), metavar="N", help="Megabytes of files that one run may return."
        ),
        click.option(
            "--network-mb",
            type=click.IntRange(1, 1_000_000),
            metavar="N",
            help="Megabytes that one run may send to and receive from the hosts of --network.",
        ),
        click.option(
            "--yes-unverified",
            is_flag=True,
            help="Skip the extra question about powerful grants to someone whose key is not verified.",
        ),
        click.option(
            "--yes-by-proxy",
            metavar="HOST,…",
            help="Skip the extra question about these hosts, whose names this machine's HTTP proxy resolves.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def given_scope(values: Mapping[str, object]) -> dict[str, object]:
    """Return the flags that were given, in the form of the API: absolute folders, budgets in one object.

    Raises Invalid for `paths` without a folder.
    """
    given = {name: values[name] for name in NAMES if values.get(name) is not None}
    if given.get("paths") is not None and not str(given["paths"]).strip(
        " ,"
    ):  # of an unset variable, say: it would lift the restriction
        raise Invalid(
            "no folder was named", fix="name folders, or use `--paths none` to confirm the folder at each accept"
        )
    if (paths := given.get("paths")) is not None and paths != "none":
        given["paths"] = [
            str(Path(part.strip()).expanduser().absolute()) for part in str(paths).split(",") if part.strip()
        ]
    if (toolchains := given.get("toolchains")) is not None:
        words = [part.strip() for part in str(toolchains).split(",") if part.strip()]
        given["toolchains"] = [
            word if word in ("auto", "none", "default") else str(Path(word).expanduser().absolute()) for word in words
        ]
    budget = {name: values[name] for name in BUDGET if values.get(name) is not None}
    for flag, name in (("output_mb", "output_bytes"), ("network_mb", "network_bytes")):
        if isinstance(megabytes := values.get(flag), int):
            budget[name] = megabytes * MB
    if budget:
        given["budget"] = budget
    return given


def powerful_grants(given: Mapping[str, object], current: Document | None = None) -> list[str]:
    """Return what the flags newly grant that can change things or runs unasked, in words. `current`: the scope now."""
    from peer.trust.scopes import POWERFUL, UNREVIEWED, network_phrase

    have = current or {}
    tools = [part.strip() for part in str(given.get("tools") or "").split(",")]
    found = [tool for tool in tools if tool in POWERFUL and tool not in (have.get("tools") or [])]
    servers = [part.strip() for part in str(given.get("mcp_servers") or "none").split(",") if part.strip()]
    if servers != ["none"] and (servers == ["*"] or set(servers) - set(have.get("mcp_servers") or [])):
        found.append("MCP servers" if servers == ["*"] else f"MCP servers {', '.join(servers)}")
    words = [part.strip() for part in str(given.get("network") or "none").split(",") if part.strip()]
    found += [network_phrase(word) for word in words if word != "none" and word not in (have.get("network") or [])]
    if given.get("approval") == "auto" and have.get("approval") != "auto":
        found.append("auto approval")
    if given.get("apply") == "auto" and have.get("apply") != "auto":
        found.append(UNREVIEWED)
    return found


def confirm_by_proxy(out: Output, hosts: Sequence[str], given: object) -> list[str]:
    """Have hosts confirmed whose names this machine's HTTP proxy resolves, by the flag or the person; return them all.

    `given`: what --yes-by-proxy names, or None. Raises Forbidden.
    """
    from peer.trust.network_words import proxied

    named = [part.strip() for part in str(given or "").split(",")]
    left = [host for host in hosts if host not in named]
    if left and interactive() and not out.json:
        out.line(proxied(left), style="yellow")
        if confirm(f"Grant {', '.join(left)} nevertheless?"):
            return list(hosts)
    if left:
        why = proxied(left).removesuffix(".")
        raise Forbidden(f"not granted: {why}", fix=f"if you want that, add --yes-by-proxy {','.join(left)}")
    return list(hosts)


def confirm_unverified(
    out: Output, who: str, fingerprint: object, found: list[str], *, yes: bool, rules: Sequence[str] = ()
) -> None:
    """Have powerful grants to an unverified key confirmed, by the flag (`yes`) or the person. Raises Forbidden.

    `rules`: the stored `always` rules, in words, that would act.
    """
    grants = f"{', '.join(found)} to {who}, whose key is not verified (fingerprint {string(fingerprint)})"
    if yes:
        return
    if interactive() and not out.json:
        out.line(f"You are about to grant {grants}.", style="yellow")
        for rule in rules:
            out.line(f"Without asking, since you always allowed it: {rule}", style="yellow")
        out.line(
            "Anybody who controls their mailbox or the broker could be asking. First compare the fingerprint with them,"
        )
        out.line("by phone or in person: `dispatch whoami` shows it on their machine.")
        if confirm("Grant it?"):
            return
    raise Forbidden(f"not granted: {grants}", fix="compare the fingerprint with them, then add --yes-unverified")
