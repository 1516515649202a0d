"""`backsplit view`: who gets in, what is served, and what becomes of a decision."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
import SimpleITK as sitk

from backsplit.errors import RunError
from backsplit.flow.project import open_project
from backsplit.flow.view import Desk, serve
from backsplit.store.decisions import read_choices, write_choice
from backsplit.store.disk import private_file
from backsplit.store.locks import claimed
from support import flow
from support.project import Project, load


@pytest.fixture(scope="module")
def finished(tmp_path_factory, project_in) -> Iterator[Project]:
    """Two cases, one with an image that is no NIfTI, up to their verdicts."""
    project = project_in(tmp_path_factory.mktemp("viewed"))
    for case in ("a", "b.html"):
        project.add(case)
    nrrd = project.folder / "images" / "b.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(project.folder / "images" / "b.html.nii.gz")), str(nrrd))
    project.rows[1]["image_ct"] = "images/b.nrrd"
    with contextlib.chdir(project.folder):
        project.write()
        project.to_verdicts()
        yield project


@pytest.fixture
def desk(finished) -> Iterator[Desk]:
    desk = Desk(open_project(finished.folder / "config.yaml"))
    yield desk
    desk.project.config.decisions_path.unlink(missing_ok=True)


@pytest.fixture
def port(desk) -> Iterator[int]:
    server = serve(desk, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
"""sha256 of `package/dist/niivue.umd.js` in what `npm pack @niivue/niivue@0.69.0` fetches."""


def ask(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """One request, with nothing of the address made tidy on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_it_listens_on_loopback_alone(desk):
    server = serve(desk, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/case/a",
        "/wrong/case/a",
        "//case/a",
        "/view.js",
        "/favicon.ico",
        "/%00",
        "/%ff/case/a",
    ],
)
def test_nothing_is_served_without_the_token(port, desk, path):
    status, body, _ = ask(port, path)
    assert status == 403 and body == b"Forbidden"
    assert ask(port, path, "POST", b"{}", Content_Type="application/json")[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8790", "127.0.0.1.evil.example", ""]
)
def test_another_host_is_refused(port, desk, host):
    assert ask(port, f"/{desk.token}/case/a", Host=host)[0] == 403
    decision = json.dumps({"case": "a", "choice": "reject", "note": ""}).encode()
    asked = ask(port, f"/{desk.token}/decide", "POST", decision, Host=host,
                Content_Type="application/json")  # fmt: skip
    assert asked[0] == 403 and not desk.project.config.decisions_path.exists()


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1:8790"])
def test_a_tunnel_may_have_another_port(port, desk, host):
    assert ask(port, f"/{desk.token}/case/a", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "case/../../config.yaml", "case/a/../../../config.yaml", "case/a/..%2f..%2fconfig.yaml",
        "case/%2e%2e/a", "case/a/image.nii.gz/x", "case/a//etc/passwd", "../config.yaml",
        "case/gone", "case/a/gone.nii.gz", "case/a/image", "etc/passwd", "case/a/segment-x.nii.gz",
        "case/..%00/image.nii.gz", "", "case", "decide",
    ],
)  # fmt: skip
def test_only_files_of_cases_are_served(port, desk, path):
    status, body, _ = ask(port, f"/{desk.token}/{path}")
    assert status == 404 and body == b"Not Found"


@pytest.mark.parametrize("name", ["image", "labels", "segment-tissue"])
@pytest.mark.parametrize("case", ["a", "b.html"])
def test_volumes_are_those_of_the_files(port, desk, finished, tmp_path, case, name):
    status, body, headers = ask(port, f"/{desk.token}/case/{case}/{name}.nii.gz")
    assert status == 200 and headers["Cache-Control"] == "no-store"
    (tmp_path / "served.nii.gz").write_bytes(body)
    image = "b.nrrd" if case == "b.html" else "a.nii.gz"
    path = {
        "image": finished.folder / "images" / image,
        "labels": finished.results / "labels" / f"{case}.nii.gz",
        "segment-tissue": finished.results / "segment" / "tissue" / f"{case}.nii.gz",
    }[name]
    assert (load(tmp_path / "served.nii.gz") == load(path)).all()
    assert gzip.decompress(body)[344:347] == b"n+1"


def test_pages_name_nothing_but_their_own_server(port, desk):
    status, body, headers = ask(port, f"/{desk.token}/case/a")
    text = body.decode()
    assert status == 200
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {
        "data:,", "../view.css", "../view.js", "../niivue.js",
    }  # fmt: skip
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy
    assert "unsafe-eval'" not in policy.replace("wasm-unsafe-eval'", "")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    for name, kind in (("view.js", "text/javascript"), ("niivue.js", "text/javascript"),
                       ("view.css", "text/css")):  # fmt: skip
        status, body, headers = ask(port, f"/{desk.token}/{name}")
        assert status == 200 and body and headers["Content-Type"].startswith(kind)


def test_niivue_is_that_of_its_package(port, desk):
    status, body, headers = ask(port, f"/{desk.token}/niivue.js")
    assert status == 200 and headers["Content-Encoding"] == "gzip"
    flags, changed = body[3], body[4:8]
    assert flags == 0 and changed == bytes(4)  # neither a name nor a time: made again, it is equal
    script = gzip.decompress(body)
    assert hashlib.sha256(script).hexdigest() == NIIVUE
    assert b"globalThis:" in script[:300] and b".niivue={}" in script[:300]  # what view.js uses
    for name in ("view.js", "view.css", "case/a", "case/a/image.nii.gz"):
        assert "Content-Encoding" not in ask(port, f"/{desk.token}/{name}")[2]


def test_decisions_are_written_at_once_and_change_nothing_else(port, desk):
    path = desk.project.config.decisions_path
    path.write_text("case\tdecision\tnote\twho\nb.html\treject\tmoved\tme\n")

    def decide(**asked: object) -> int:
        body = json.dumps(asked).encode()
        return ask(port, f"/{desk.token}/decide", "POST", body, Content_Type="application/json")[0]

    assert decide(case="a", choice="accept", note='a "b"\tc\nd') == 200
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert table.to_numpy().tolist() == [
        ["b.html", "reject", "moved", "me"], ["a", "accept", 'a "b" c d', ""],
    ]  # fmt: skip
    flow.judge(desk.project, print)  # takes it
    assert decide(case="a", choice="", note="") == 200
    assert read_choices(path) == {"b.html": ("reject", "moved")}
    before = path.read_bytes()
    for wrong in (
        {"case": "gone", "choice": "accept", "note": ""},
        {"case": "a", "choice": "maybe", "note": ""},
        {"case": "../a", "choice": "accept", "note": ""},
        {"case": "a", "choice": "accept", "note": "x" * 501},
        {},
    ):
        assert decide(**wrong) == 400
    ours = "application/json"
    for body, kind in (
        *((b"[1]", ours), (b"{", ours), (b"x" * 5000, ours)),
        (b'{"case": "a", "choice": "accept"}', "text/plain"),
    ):
        status = ask(port, f"/{desk.token}/decide", "POST", body, Content_Type=kind)[0]
        assert status in (400, 413)
    assert path.read_bytes() == before


def test_of_two_viewers_one_waits_for_the_other(desk):
    path = desk.project.config.decisions_path
    asked = {"case": "a", "choice": "accept", "note": ""}
    waiting = threading.Thread(target=desk.decide, args=[asked])
    with claimed(desk.project.results, "decisions", print):
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not path.exists()
        write_choice(path, "b.html", "reject", "")
    waiting.join(20)
    assert read_choices(path) == {"b.html": ("reject", ""), "a": ("accept", "")}


def test_a_damaged_table_of_decisions_is_never_written_over(port, desk):
    path = desk.project.config.decisions_path
    path.write_bytes(b"case\tdecision\n\xff\xfe\x00")
    body = json.dumps({"case": "a", "choice": "accept", "note": ""}).encode()
    status, said, _ = ask(
        port, f"/{desk.token}/decide", "POST", body, Content_Type="application/json"
    )
    assert status == 500 and b"cannot be read" in said
    assert path.read_bytes() == b"case\tdecision\n\xff\xfe\x00"


@pytest.mark.parametrize(("raised", "said"), [(BrokenPipeError, False), (KeyError, True)])
def test_a_browser_that_goes_on_to_another_page_is_no_error(
    port, desk, monkeypatch, capfd, raised, said
):
    def leave(*_: object) -> None:
        raise raised

    monkeypatch.setattr("backsplit.flow.view._Handler._send", leave)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(port, f"/{desk.token}/view.css")
    assert ("Traceback" in capfd.readouterr().err) == said


def test_tokens_differ_and_are_long(desk):
    assert desk.token != Desk(desk.project).token and len(desk.token) >= 32


def test_a_case_that_is_not_there_is_said(desk):
    with pytest.raises(RunError, match="'gone' is not a measured case"):
        desk.first("gone")
    assert desk.first("b.html") == "b.html"


def test_choices_are_kept_in_a_table_that_was_not_there(tmp_path):
    write_choice(tmp_path / "qc" / "decisions.tsv", "a", "reject", "x")
    write_choice(tmp_path / "qc" / "decisions.tsv", "a", "accept", "y")
    assert read_choices(tmp_path / "qc" / "decisions.tsv") == {"a": ("accept", "y")}


@contextlib.contextmanager
def running(finished, *options: str, **variables: str):
    """The command, up to the line with the tunnel: its process, the address, the tunnel."""
    # as on a terminal, also where the tests were started in the background, without Ctrl-C
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heard}; from backsplit.cli import app; app()"]
    command += ["view", "a", "--config", "config.yaml", "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    with subprocess.Popen(
        command, cwd=finished.folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            address, tunnel = process.stdout.readline(), process.stdout.readline()
            yield process, address.split()[-1], tunnel
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()  # to its last line


def test_the_command_says_where_and_how_from_elsewhere(finished):
    with running(finished) as (process, address, tunnel):
        found = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w-]+/case/a)$", address)
        assert found and f"ssh -N -L {found[1]}:127.0.0.1:{found[1]} " in tunnel
        assert ask(int(found[1]), found[2])[0] == 200
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0 and "stopped" in rest


def test_a_browser_is_opened_without_the_token_on_its_command_line(finished, tmp_path):
    """Any user can list the command lines of others."""
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}.part; mv {seen}.part {seen}\n')
    browser.chmod(0o755)
    with running(finished, "--open", BROWSER=str(browser)) as (process, address, _):
        for _ in range(600):
            if seen.exists():
                break
            time.sleep(0.1)
        (given,) = seen.read_text().split()
        token = address.split("/")[3]
        assert given.startswith("file:///") and token not in given
        page = Path(unquote(urlsplit(given).path))
        assert page.stat().st_mode & 0o777 == 0o600
        assert f'content="0; url={address}"' in page.read_text()
        listed = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert token.encode() not in listed
    assert process.returncode == 0 and not page.exists()
    assert page.is_relative_to(finished.results) and not list(finished.results.glob(".part-*"))


def test_where_others_could_read_the_file_no_browser_is_opened(finished, monkeypatch):
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat_result((0o100644, *range(1, 10))))
    with (
        pytest.raises(PermissionError, match="others could read"),
        private_file(finished.results, ".html", "secret"),
    ):
        pass
    assert not list(finished.results.glob(".part-*"))


def test_no_case_is_said_with_a_command_that_can_be_pasted(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    project.add("a")
    config: Path = project.write().rename("my config.yaml")
    flow.check(config, None, 1, print)
    with pytest.raises(RunError, match="has been measured") as raised:
        Desk(open_project(config)).first(None)
    assert raised.value.remedy.endswith("`backsplit run -c 'my config.yaml'`")
