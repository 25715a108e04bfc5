"""A headless Chromium, pages that never leave this machine, a folder served to them, and a running JupyterLab.

Every page of a test writes what went wrong in it into `complaints`: errors on the console and in scripts, requests that
failed, and requests that would have left this machine, which are refused. A test fails where any are left at its end.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# Nothing but this machine is found, with a proxy or without.
ONLY_HERE = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
PATIENCE = 60_000  # milliseconds; a busy machine is slow


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the one that the variable CHROMIUM names, else the system's, else Playwright's own."""
    named = os.environ.get("CHROMIUM")
    if named and not Path(named).is_file():
        raise pytest.UsageError(f"the environment variable CHROMIUM names no file: {named}")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=named or system, args=["--no-sandbox", *ONLY_HERE])
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What went wrong in the pages of a test so far; the test fails where anything is left at its end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Open an empty page: `open_page(width=375, height=667, color_scheme="dark", ...)`.

    What else is given goes to Playwright's `new_context`, as `reduced_motion="reduce"`.
    """
    contexts = []

    def opened(width: int = 1280, height: int = 800, **options) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, service_workers="block", **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: _leaves(request.url, complaints))
        context.on("requestfailed", lambda request: complaints.append(f"failed: {request.url} ({request.failure})"))
        context.on("response", lambda response: _refused(response, complaints))
        context.on("console", lambda message: _said(message, complaints))
        context.on("weberror", lambda error: complaints.append(f"script: {error.error}"))
        page = context.new_page()
        page.on("websocket", lambda socket: _leaves(socket.url, complaints))
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """An empty page of a desktop's width."""
    return open_page()


def _leaves(url: str, complaints: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname not in LOOPBACK:
        complaints.append(f"leaves this machine: {url}")


def _refused(response, complaints: list[str]) -> None:
    if response.status >= 400:
        complaints.append(f"{response.status}: {response.url}")


def _said(message, complaints: list[str]) -> None:
    if message.type == "error":
        complaints.append(f"console: {message.text} ({message.location.get('url', '')})")


@pytest.fixture
def served() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on a free port of loopback: `served(folder)` returns its address, without a slash at the end."""
    servers = []

    def serve(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments) -> None:
        """Say nothing: a test's output is what failed."""


class JupyterLab(NamedTuple):
    """A running JupyterLab: its address, token, and the folder that it serves."""

    url: str
    token: str
    folder: Path

    def address(self, notebook: str) -> str:
        """Where a notebook opens alone, in a workspace of its own: `lab.address("00_start_here.ipynb")`."""
        workspace = notebook.removesuffix(".ipynb")
        return f"{self.url}/lab/workspaces/{workspace}/tree/notebooks/{notebook}?token={self.token}&reset"


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """JupyterLab on a copy of what the notebooks need, so that no committed notebook is saved over.

    Its kernels inherit ADS_CSV and BATCHLAB_OFFLINE from the tests. `window.jupyterapp` is its application.
    """
    folder = tmp_path_factory.mktemp("jupyterlab") / "clone"
    for name in ("notebooks", "src", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for file in (*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)
    settings = folder.parent / "settings"
    settings.mkdir()
    chosen = {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/docmanager-extension:plugin": {"autosave": False},  # the ledger reads what is stored
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # every cell in the page, seen or not
    }
    (settings / "overrides.json").write_text(json.dumps(chosen), encoding="utf-8")

    token = secrets.token_hex()
    # Of a user of its own: nobody's settings, workspaces or extensions come in, and none are written.
    private = {
        name: str(folder.parent / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    log = folder.parent / "jupyterlab.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
                *(f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"),
                *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--LabApp.extension_manager=readonly"),
                f"--LabApp.app_settings_dir={settings}",
                *(f"--LabApp.user_settings_dir={settings}/user", f"--LabApp.workspaces_dir={settings}/workspaces"),
            ],
            env=os.environ | private | {"BATCHLAB_OFFLINE": "1"},
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
        try:
            yield JupyterLab(_address(process, Path(private["JUPYTER_RUNTIME_DIR"]), log), token, folder)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Wait until the server answers; its own file says on which port."""
    for _ in range(600):
        for file in runtime.glob("jpserver-*.json"):
            try:
                url = f"http://127.0.0.1:{json.loads(file.read_text(encoding='utf-8'))['port']}"
                urllib.request.urlopen(f"{url}/api", timeout=5)
            except (OSError, json.JSONDecodeError):  # no answer yet, or a file that is still being written
                continue
            return url
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")
