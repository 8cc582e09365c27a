"""What a hostile contact says, on the page: as in tests/system/test_remote_texts.py, every text node is looked at."""

from __future__ import annotations

from typing import Any

from tests.hostile_texts import MARK
from tests.page.conftest import Opener
from tests.system.world import Person, World, connect

NODES = """mark => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.data.includes(mark)) continue;
    const block = node.parentElement.closest("p, li, dd, div");
    found.push({
      own: node.data,
      sentence: block ? block.textContent : node.data,
      quotation: Boolean(node.parentElement.closest("pre, code, dl, .links, h1.asked-for, .reply")),
      helps: block ? block.textContent.startsWith("What helps") : false,
    });
  }
  return found;
}"""


def test_no_text_of_a_contact_is_ours_on_the_page(pair: tuple[Person, Person], world: World, new_tab: Opener) -> None:
    """Seen to fail with a reason that is shown as it came, and with statuses and details of a trace unquoted."""
    alice, _ = pair
    mallory = world.person("mallory", start=False)
    mallory.launch(module="tests.hostile_texts")
    mallory.ready()
    connect(alice, mallory, approval="auto")
    connect(mallory, alice)
    mallory.will({"say": "done"})
    declined, ended = (str(alice.client.send(mallory.email, "Hello")["dispatch_id"]) for _ in range(2))
    for each in (declined, ended):
        alice.state_of(each, "pending")
    mallory.client.decline(declined, reason="no")
    mallory.client.accept(ended)
    alice.state_of(declined, "declined")
    alice.state_of(ended, "completed")
    came = str(mallory.client.send(alice.email, "Hello")["dispatch_id"])
    mallory.state_of(came, "pending")
    tab = new_tab(alice)
    tab.open()
    seen: list[dict[str, Any]] = []
    for path, shown in (
        (f"/dispatches/{declined}", "declined it"),
        (f"/dispatches/{ended}", "What happened"),
        (f"/dispatches/{came}", "Task"),
    ):
        tab.page.goto(f"{tab.page.url.split('/dispatches')[0].rstrip('/')}{path}")
        tab.page.get_by_text(shown).first.wait_for()
        tab.page.get_by_text(MARK).first.wait_for()
        while True:  # only the rows in sight of a trace are drawn
            seen += tab.page.evaluate(NODES, MARK)
            if tab.page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 1"):
                break
            tab.page.evaluate("scrollBy(0, innerHeight / 2)")
            tab.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(seen) > 10
    for node in seen:
        assert not node["helps"], node
        before = node["sentence"][: node["sentence"].index(node["own"].strip()[:40])]
        quoted = "“" in node["own"].split(MARK)[0] or before.count("“") > before.count("”")
        assert node["quotation"] or quoted, node
    mallory.stop()
