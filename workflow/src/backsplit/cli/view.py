"""`backsplit view`: look at cases in full resolution, in a browser."""

from __future__ import annotations

import getpass
import platform
import shlex
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors
from backsplit.cli.names import complete_cases

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
        if open_browser:
            typer.launch(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("[backsplit] view: stopped")
        finally:
            server.server_close()
