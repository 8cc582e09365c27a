"""Generates docs/mcp.md from the tools: `python -m mcp_plugin.reference > docs/mcp.md`."""

from __future__ import annotations

import sys

from mcp_plugin.arguments import Arguments, JsonSchema, schema
from mcp_plugin.tools import TOOLS, Entry

HEAD = """\
# The MCP server

Written by `python -m mcp_plugin.reference`; a test compares. `dispatch-mcp` speaks MCP on standard input and output,
for the session of an agent's program; [plugin.md](plugin.md) says what it is to a person in Claude Code. Any host may
start it:

    {"mcpServers": {"dispatch": {"command": "dispatch-mcp"}}}

**The node.** It uses the daemon that runs. Without one the session has a node of its own, a process beside it, for
every other program of this person too, as long as the session lasts; then another session takes over, or
`dispatch-daemon` does. Where nobody signed in yet, every tool says `dispatch login`, and nothing is started. A node
that uses another sign-in than `$DISPATCH_BROKER` or `$DISPATCH_TOKEN` names refuses every tool (409).

**Eras.** The handshake era (`initialize`, 2024-11-05 to 2025-11-25), and with `DISPATCH_MCP_ERA=auto` the one of
2026-07-28 too, for hosts that ask for it first. There a form ends a call, which the host makes once more with the
answer.

**Results** are structured content, and the same as JSON text. Beyond 40 KB the longest texts go to files of the state
folder (`long_texts`). What other people wrote stands in fields named `untrusted_…`, or is listed in the `note` beside
it, with control and bidirectional characters made visible. Errors are `{code, message, fix}` with `isError`; the
codes are those of [protocol.md](protocol.md). A `fix` names the tool that helps, or what the person does in a terminal.
Lists have `more` and `next`, the `before` of the next page.

**Approvals.** `accept`, `approve`, `deny` and `watch` follow a run, with progress, to its next gate (`status:
"approval_needed"`) or its end. In the *picker* the host asks its person the result's `question`, unchanged (an entry of
AskUserQuestion's `questions`), and passes the answer on; the plugin's hook compares the two. In the *form*
(`approval_ui`, `DISPATCH_APPROVAL_UI`) the server asks by elicitation at each gate, within one call; where nobody can
be asked so, or nobody answered, the picker is used. An approval within 1.2 seconds of the call being shown is not
taken; a deny always is. Cancelling a call leaves the run alone. A dispatch that waits has a `question` in the inbox and
its status, which names the folder it would run in; `accept` returns `folder_choice_required`, and runs nothing, where a
folder is suggested that the person has to choose, and where something will not work in the folder and the session was
not told so.

**A person's own word**, in a form that the server asks for, is needed for `always`, for accepting an invitation and
for every wider edge. Where the host has no forms the refusal (403) names the command for a terminal.

## Tools

Every tool refuses arguments that it does not know (422), and `action` or `what` those that it does nothing with.
"""


def render() -> str:
    """Return the whole document."""
    return HEAD + "".join(_tool(entry) for entry in TOOLS.values())


def _tool(entry: Entry[Arguments]) -> str:
    hints = ["read-only" if entry.reads else "destructive" if entry.destroys else "additive"]
    hints += [] if entry.reads else ["open world"]
    described = schema(entry.arguments)
    lines = [f"\n### {entry.name}\n", f"{entry.description} *({', '.join(hints)})*\n"]
    if described["properties"]:
        required = described.get("required", [])
        lines.append("| argument | is | |\n|---|---|---|")
        lines += [
            f"| `{name}`{'' if name in required else '?'} | {_kind(about)} | {_cell(about)} |"
            for name, about in described["properties"].items()
        ]
    else:
        lines.append("No arguments.")
    return "\n".join(lines) + "\n"


_LIMITS = {"maxLength": "characters", "maxItems": "of them", "maxProperties": "pairs"}


def _cell(about: JsonSchema) -> str:
    limits = [f"at most {about[name]:,} {unit}" for name, unit in _LIMITS.items() if name in about]
    return "; ".join([about.get("description", ""), *limits]).replace("|", "&#124;")


def _kind(about: JsonSchema) -> str:
    if "enum" in about:
        return " &#124; ".join(f"`{choice}`" for choice in about["enum"])
    if "anyOf" in about:
        return " or ".join(_kind(choice) for choice in about["anyOf"])
    if about.get("type") == "array":
        return f"list of {_kind(about.get('items', {}))}"
    return {"string": "text", "integer": "number", "object": "texts by name"}.get(
        str(about.get("type")), str(about.get("type", "any"))
    )


if __name__ == "__main__":
    sys.stdout.write(render())
