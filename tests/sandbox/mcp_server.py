"""A small MCP server as people have them, for the tests: its tools do what a test wants to see. Not a test itself.

Arguments: names of tools to offer, `name=description` for another description; before them `--chatter` to put a line
that is no message on stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

OBJECT = {"type": "object", "properties": {"text": {"type": "string"}, "number": {"type": "number"}}}


def act(tool: str, given: dict[str, Any]) -> str:
    text = given.get("text", "")
    if tool == "read":
        return Path(text).read_text()
    if tool == "list":
        return " ".join(sorted(entry.name for entry in Path(text).iterdir()))
    if tool == "environment":
        return " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()))
    if tool == "processes":
        return " ".join(entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
    if tool == "shell":
        return subprocess.run(text, shell=True, capture_output=True, text=True, check=False).stdout
    if tool == "sleep":
        subprocess.Popen(["setsid", "sleep", "1000"])
        Path(text).touch()
        time.sleep(1000)
    if tool == "fail":
        raise ValueError(text)
    if tool == "long":
        return "x" * int(given["number"])
    if tool == "leave":
        os._exit(0)
    return f"{tool}: {text}"


async def main(words: list[str]) -> None:
    offered = dict(word.partition("=")[::2] for word in words)

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=name, description=said or name, input_schema=OBJECT) for name, said in offered.items()
            ]
        )

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            text, failed = await anyio.to_thread.run_sync(act, params.name, params.arguments or {}), False
        except Exception as problem:
            text, failed = str(problem), True
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)

    server: Server[Any] = Server("for-tests", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--chatter":
        sys.stdout.write("Welcome to this server!\n")
        sys.stdout.flush()
        del words[0]
    anyio.run(main, words, backend="trio")
