"""`open`: the local page in the browser, signed in by a one-time code. The page itself is in peer.api.page."""

from __future__ import annotations

import html

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.completion import dispatch_ids
from cli.ids import resolve
from peer.client.blocking import HOST

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>dispatch</title>
<p><a href="{url}">Open dispatch</a></p>
"""


@click.command("open", cls=DispatchCommand, example="dispatch open\ndispatch open 4e5f6a7b\ndispatch open --no-browser")
@click.argument("dispatch_id", required=False, metavar="[ID]", shell_complete=dispatch_ids)
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it in the browser.")
@pass_app
def open_page(app: App, dispatch_id: str | None, no_browser: bool) -> None:
    """Open the page of this machine's daemon in the browser, signed in. With ID, open that dispatch.

    The address holds a code that signs in one browser, once, within two minutes.
    """
    path = "/"
    if dispatch_id is not None:
        client = app.client
        path = f"/dispatches/{client.dispatch(resolve(client, dispatch_id))['dispatch_id']}"
    given = app.client.page_code()
    url = f"http://{HOST}:{given['port']}{path}#code={given['code']}"
    opened = not no_browser and _open(app, url)
    if app.out.json:
        app.out.document({"url": url, "expires_in": given["expires_in"], "opened": opened})
        return
    if opened:
        app.out.line("opened in the browser; if nothing appears, open this yourself:")
    app.out.line(url)


def _open(app: App, url: str) -> bool:
    """Open the page in a browser; return whether one could be started.

    The browser gets the path of a private file that redirects, since every user of the machine can read the arguments
    of a program, and the address contains the code.
    """
    import webbrowser

    folder = app.folder
    folder.write_private(folder.open_page, PAGE.format(url=html.escape(url, quote=True)).encode())
    return webbrowser.open(folder.open_page.as_uri())
