"""What of this machine is set up and what is missing, from its settings and keys. Changes nothing; asks no daemon.

`dispatch setup`, `dispatch` without a command and the local page show these parts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from peer.machine import identity, model_key
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import NotSignedIn
from sandbox.runtimes import RUNTIMES

Name = Literal["sign-in", "daemon", "model key", "projects"]


class Part(NamedTuple):
    """One part. `detail`: how it is, or why it is missing. `command`: what sets it up by itself."""

    name: Name
    done: bool
    detail: str
    command: str
    needed: bool = True
    """Whether nothing works without it."""


class Obstacle(NamedTuple):
    """Why no task can run on this machine, and what helps."""

    message: str
    fix: str


def sign_in(folder: StateFolder, chosen: Settings) -> Part:
    """Return whether this device has an identity and a sign-in at a broker."""
    command = f"dispatch login --broker {chosen.broker or 'https://…'}"
    try:
        who = identity.load(folder)
    except NotSignedIn:
        return Part("sign-in", False, "this machine has not signed in at a broker yet", command)
    if not (chosen.broker and chosen.token):
        return Part("sign-in", False, f"{who.user_id} is not signed in at a broker", command)
    return Part("sign-in", True, f"{who.user_id} at {chosen.broker}", command)


def daemon(running: bool) -> Part:
    """Return whether `dispatch-daemon` runs."""
    return Part("daemon", running, "running" if running else "not running", "dispatch service install")


def model(chosen: Settings) -> Part:
    """Return whether the agent has the key that it needs."""
    command = "dispatch config set model.api_key -"
    if not model_key.needed(chosen):
        return Part("model key", True, f"none is needed: the {chosen.runtime} agent uses no model", command)
    if not chosen.model.api_key:
        why = chosen.model.key_problem or "without one, this machine can send tasks but not run them"
        return Part("model key", False, why, command, needed=False)
    at = f", for {chosen.model.base_url}" if chosen.model.base_url else ""
    return Part("model key", True, f"set{at}", command)


def obstacle(chosen: Settings) -> Obstacle | None:
    """Return what the agent lacks to run a task: its program or its key. The sandbox is not looked at: that is slow."""
    from importlib import metadata  # with the next, 30 ms that only this needs

    from sandbox import distribution

    info = RUNTIMES[chosen.runtime]
    if info.distribution:
        try:
            metadata.version(info.distribution)
        except metadata.PackageNotFoundError:
            return Obstacle(f"the {info.name} agent is not installed", distribution.adding(info.extra))
    key = model(chosen)
    if key.done:
        return None
    return Obstacle(chosen.model.key_problem or "it has no model key", f"`{key.command}`")


def projects(chosen: Settings) -> Part:
    """Return whether folders of projects are named."""
    command = "dispatch config set roots PATH"
    if not chosen.roots:
        return Part("projects", False, "no project folder is set", command, needed=False)
    return Part("projects", True, ", ".join(chosen.roots), command)
