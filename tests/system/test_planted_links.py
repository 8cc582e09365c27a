"""A symbolic link that a run made lies in a folder of its edge; nobody who accepts a dispatch follows it unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict, Forbidden, Invalid
from tests.conftest import more
from tests.system.world import ALL_TOOLS, Person, World, connect

Pair = tuple[Person, Person]


def planted(pair: Pair) -> tuple[Path, Path]:
    """A link that a run of Alice's edge made, put in place: the link, and what it leads to."""
    alice, bob = pair
    shop, finance = bob.projects / "shop", bob.projects / "finance"
    for folder in (shop, finance):
        folder.mkdir(exist_ok=True)
    (finance / "salaries.txt").write_text("salaries")
    link = shop / "next"
    link.unlink(missing_ok=True)
    bob.client.edit_trust(alice.email, {"paths": [str(shop)], "approval": "auto"})
    bob.will({"tool": "Bash", "input": {"command": f"ln -s {finance} next"}})
    made = str(alice.client.send(bob.email, "Tidy up")["dispatch_id"])
    alice.state_of(made, "pending")
    bob.client.accept(made, cwd=str(shop))
    assert bob.state_of(made, "completed", "failed")["status"] == "completed"
    assert not link.is_symlink(), "what a run makes stays in its view"
    link.symlink_to(finance)
    bob.will({"tool": "Bash", "input": {"command": "cat *"}})
    return link, finance


@pytest.mark.parametrize("paths", [*more("none", "elsewhere"), "both", "the link's"])
def test_a_planted_link_is_not_followed(pair: Pair, world: World, paths: str) -> None:
    """Seen to fail for `none` with an accept that follows links: it ran in `finance`, and said so afterwards only; and
    for the others without the comparison with the edge's folders, and without the refusal of links inside them."""
    link, finance = planted(pair)
    bob = pair[1]
    other = bob.projects / "other"
    other.mkdir(exist_ok=True)
    scope: dict[str, Any] = {
        "none": {},
        "elsewhere": {"paths": [str(other)]},
        "both": {"paths": [str(bob.projects)]},
        "the link's": {"paths": [str(link.parent)]},
    }[paths]
    nora = world.person("nora")
    connect(nora, bob, tools=ALL_TOOLS, approval="auto", **scope)
    dispatch_id = str(nora.client.send(bob.email, "What is there?")["dispatch_id"])
    nora.state_of(dispatch_id, "pending")
    refusal = {"none": Conflict, "elsewhere": Forbidden, "both": Invalid, "the link's": Invalid}[paths]
    with pytest.raises(refusal) as refused:
        bob.client.accept(dispatch_id, cwd=str(link))
    error = bob.refused("accept", dispatch_id, "--cwd", str(link), "--no-follow")
    assert error["code"] == refused.value.code
    named = str(link) if refusal is Invalid else str(finance)
    assert named in refused.value.message and named in error["message"], error
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    if paths != "none":
        return
    # Its fix names the folder: with that, and in full sight of it, it runs there.
    assert str(finance) in error["fix"]
    assert bob.client.folder(dispatch_id, str(link))["cwd"] == str(finance)
    assert bob.client.accept(dispatch_id, cwd=str(finance))["cwd"] == str(finance)
    assert bob.state_of(dispatch_id, "completed", "failed")["status"] == "completed"


def test_a_granted_folder_that_became_a_link_is_refused(pair: Pair) -> None:
    """Of the one folder that an edge grants, where a run is unless its person says otherwise."""
    alice, bob = pair
    website, finance = bob.projects / "website", bob.projects / "finance"
    (website / ".git").mkdir(parents=True, exist_ok=True)
    finance.mkdir(exist_ok=True)
    bob.client.edit_trust(alice.email, {"paths": [str(website)]})
    try:
        dispatch_id = str(alice.client.send(bob.email, "Look at the website", project="website")["dispatch_id"])
        alice.state_of(dispatch_id, "pending")
        suggested = bob.client.dispatch(dispatch_id)["suggestion"]
        assert (suggested["cwd"], suggested["pinned"]) == (str(website), True)
        website.rename(bob.projects / "moved")
        website.symlink_to(finance)
        with pytest.raises(Invalid, match="symbolic link"):
            bob.client.accept(dispatch_id)
        assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    finally:
        website.unlink(missing_ok=True)
