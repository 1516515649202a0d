"""`backsplit view`: look at cases in full resolution, in a browser."""

from __future__ import annotations

import getpass
import platform
import shlex
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors
from backsplit.cli.names import complete_cases
from backsplit.store.disk import private_file

app = typer.Typer()


@app.command()
def view(
    case: Annotated[
        str | None,
        typer.Argument(
            help="Case to show first. Default: the first to review.",
            autocompletion=complete_cases,
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.")
    ] = 8790,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open a browser on this machine.")
    ] = False,
) -> None:
    """Serve a 3D viewer to this machine only; decisions are saved to decisions.tsv at once."""
    from backsplit.flow.project import open_project
    from backsplit.flow.view import LOOPBACK, Desk, serve

    with errors(None) as say:
        desk = Desk(open_project(config))
        first = desk.first(case)
        try:
            server = serve(desk, port)
        except OSError as error:
            say(f"[backsplit] view: port {port}: {error.strerror}; using a free one")
            server = serve(desk, 0)
        number = server.server_address[1]
        # not localhost: as [::1] that may be another user's server, who would be told the token
        address = f"http://{LOOPBACK}:{number}/{desk.token}/case/{first}"
        say(f"[backsplit] view: {address}")
        say(
            "[backsplit] view: to open it on another machine, first run there: "
            f"ssh -N -L {number}:127.0.0.1:{number} {getpass.getuser()}@{platform.node()}"
        )
        again = f"`backsplit run -c {shlex.quote(str(desk.project.path))}`"
        say(f"[backsplit] view: Ctrl-C stops it; {again} applies the decisions, to the export too")
        try:
            with ExitStack() as until_the_end:
                until_the_end.callback(server.server_close)
                if open_browser:
                    try:
                        until_the_end.enter_context(
                            opened_by_file(address, desk.project.results.root)
                        )
                    except OSError as error:
                        say(f"[backsplit] view: open the address yourself ({error.strerror})")
                server.serve_forever()
        except KeyboardInterrupt:
            say("[backsplit] view: stopped")


@contextmanager
def opened_by_file(address: str, folder: Path) -> Iterator[None]:
    """Open a browser at an address that no command line shows: other users can list those.

    The browser is given a file that leads there, and that only its owner can read. It lies in the
    results, because browsers in a sandbox (snap) see no /tmp.
    """
    page = (
        '<!DOCTYPE html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0; url={address}"><title>backsplit view</title>'
        f'<a href="{address}">backsplit view</a>'
    )
    with private_file(folder, ".html", page) as path:
        # a browser in the terminal would keep the server from starting
        Thread(target=webbrowser.open, args=(path.absolute().as_uri(),), daemon=True).start()
        yield
