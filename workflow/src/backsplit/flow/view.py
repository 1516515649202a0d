"""A viewer of single cases for a browser: NiiVue, served to this machine alone.

Nobody else gets in: the server listens on loopback, every address begins with a random token, and
requests that name another host (a page elsewhere, whose name was made to point here) are refused.
What can be asked for is a fixed set of names, looked up; no part of an address becomes a path.
"""

from __future__ import annotations

import hmac
import json
import secrets
import shlex
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from backsplit.cases.table import Case, load_checked
from backsplit.errors import BacksplitError, Code, RunError
from backsplit.flow.project import Project
from backsplit.judge.verdicts import Verdict
from backsplit.report import served
from backsplit.report.case_facts import PageFacts, gather_pages
from backsplit.store.decisions import read_choices, write_choice
from backsplit.store.locks import claimed
from backsplit.volume import read_geometry, read_volume, save_nifti

LOOPBACK = "127.0.0.1"
HOSTS = frozenset({LOOPBACK, "localhost"})
LONGEST_BODY = 4096
"""Bytes of a decision; a note has at most 500 characters."""
LONGEST_NOTE = 500

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        # NiiVue keeps its font as data: addresses, and decodes in WebAssembly
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self' data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Desk:
    """What the viewer can show and decide.

    Attributes
    ----------
    project : whose cases
    token : without which nothing is served
    """

    project: Project
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def cases(self) -> dict[str, Case]:
        """Cases that were measured, by id, in the table's order."""
        known = {checked.case.id: checked.case for checked in load_checked(self.project.table)}
        return {case: known[case] for case in self._pages if case in known}

    @cached_property
    def _pages(self) -> dict[str, PageFacts]:
        return gather_pages(self.project.config, self.project.scheme, everything=True)

    def first(self, case: str | None) -> str:
        """The case to begin with.

        Raises
        ------
        RunError
            FILE_MISSING: there is none, or none of that name, that can be shown.
        """
        if not self.cases:
            raise RunError(
                Code.FILE_MISSING,
                f"no case in {self.project.results.root} has been measured",
                f"run the workflow first: `backsplit run -c {self._config}`",
            )
        if case is None:
            waiting = [id_ for id_ in self.cases if self._pages[id_].verdict == Verdict.REVIEW]
            return (waiting or list(self.cases))[0]
        if case not in self.cases:
            raise RunError(
                Code.FILE_MISSING,
                f"{case!r} is not a measured case of {self.project.results.cases}",
                f"see `backsplit explain {shlex.quote(case)} -c {self._config}`",
            )
        return case

    @property
    def _config(self) -> str:
        return shlex.quote(str(self.project.path))

    def served(self, case: str) -> served.Served:
        """Files and facts of a case."""
        project = self.project
        return served.served(
            project.config, project.scheme, project.classes, self.cases[case], self._pages[case]
        )

    def page(self, case: str) -> str:
        """Page of a case."""
        choices = read_choices(self.project.config.decisions_path)
        return served.page(list(self.cases), self.served(case), choices)

    def decide(self, asked: Any) -> None:  # noqa: ANN401 (whatever JSON a request holds)
        """Write a decision.

        Raises
        ------
        ValueError
            It is none.
        """
        if not isinstance(asked, dict):
            raise ValueError("not a decision")
        case, choice, note = (str(asked.get(key, "")) for key in ("case", "choice", "note"))
        if case not in self.cases or choice not in ("", *Verdict):
            raise ValueError("unknown case or decision")
        if len(note) > LONGEST_NOTE:
            raise ValueError(f"a note has at most {LONGEST_NOTE} characters")
        # of two viewers at once, too, neither loses what the other one writes
        with self._lock, claimed(self.project.results, "decisions", lambda _: None):
            write_choice(self.project.config.decisions_path, case, choice, note)


def serve(desk: Desk, port: int) -> ThreadingHTTPServer:
    """Open the server on loopback; `serve_forever` runs it. A port of 0 takes any.

    Raises
    ------
    OSError
        The port is taken.
    """

    class Handler(_Handler):
        pass

    Handler.desk = desk
    return _Server((LOOPBACK, port), Handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of browsers that went on to another page."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    desk: Desk
    server_version = "backsplit"
    sys_version = ""

    def do_GET(self) -> None:
        """Serve a page, our own script and style, NiiVue, or a file of a case."""
        parts = self._allowed()
        if parts is None:
            return
        try:
            self._get(parts)
        except (BacksplitError, OSError, ValueError) as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error).encode())

    def do_POST(self) -> None:
        """Write a decision."""
        parts = self._allowed()
        if parts is None:
            return
        length = self.headers.get("Content-Length", "")
        typed = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if parts != ["decide"] or typed != "application/json" or not length.isdecimal():
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        if int(length) > LONGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            self.desk.decide(json.loads(self.rfile.read(int(length))))
        except ValueError as error:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", str(error).encode())
        except (BacksplitError, OSError) as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error).encode())
        else:
            self._send(HTTPStatus.OK, "text/plain", b"kept")

    def _get(self, parts: list[str]) -> None:
        match parts:
            case ["view.js"]:
                self._send(HTTPStatus.OK, "text/javascript", served.script().encode())
            case ["view.css"]:
                self._send(HTTPStatus.OK, "text/css", served.style().encode())
            case ["niivue.js"]:
                compressed = served.niivue()
                self._send(HTTPStatus.OK, "text/javascript", compressed, "gzip")
            case ["case", case] if case in self.desk.cases:
                self._send(HTTPStatus.OK, "text/html", self.desk.page(case).encode())
            case ["case", case, name] if case in self.desk.cases and name.endswith(".nii.gz"):
                path = self.desk.served(case).files.get(name.removesuffix(".nii.gz"))
                if path is None:
                    self._refuse(HTTPStatus.NOT_FOUND)
                else:
                    self._send_volume(path)
            case _:
                self._refuse(HTTPStatus.NOT_FOUND)

    def _allowed(self) -> list[str] | None:
        """Parts of the address behind the token; None, and an answer, where it is not there."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            _, token, *parts = unquote(urlsplit(self.path).path, errors="strict").split("/")
        except ValueError:
            host, token, parts = "", "", []
        if host not in HOSTS or not hmac.compare_digest(token.encode(), self.desk.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        return parts

    def _send_volume(self, path: Path) -> None:
        """Send a volume as NIfTI, whatever format it has."""
        if not path.is_dir() and read_geometry(path).reads_alike:
            with path.open("rb") as stream:
                self._send_stream(stream, path.stat().st_size)
            return
        volume = read_volume(path)
        with tempfile.TemporaryDirectory(prefix="backsplit-view-") as folder:
            converted = Path(folder) / "volume.nii.gz"
            save_nifti(converted, volume.array, volume.grid)
            with converted.open("rb") as stream:
                self._send_stream(stream, converted.stat().st_size)

    def _send_stream(self, stream: BinaryIO, length: int) -> None:
        self._head(HTTPStatus.OK, "application/gzip", length)
        shutil.copyfileobj(stream, self.wfile)

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, "text/plain", status.phrase.encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes, encoding: str = "") -> None:
        self._head(status, f"{kind}; charset=utf-8", len(body), encoding)
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, length: int, encoding: str = "") -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401
        """Say nothing: addresses hold the token."""
