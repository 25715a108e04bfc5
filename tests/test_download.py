"""The download, against a real server on loopback: verified by content, bounded in time, quiet, and remembered.

Its time is one that a test makes: it passes only where somebody waits in vain, so that a busy machine cannot fail this.
"""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchlab.table import ads
from batchlab.table.ads import fingerprint, load_ads

STAND_IN = Path(__file__).resolve().parents[1] / "data" / "stand_in.csv"
# Any content can stand for the real one: what counts as real is a parameter.
RIGHT = STAND_IN.read_bytes()
LINES = RIGHT.decode().splitlines()
WRONG = RIGHT.replace(b",19,19000,0", b",19,20000,0")
INDEXED = "\n".join(["," + LINES[0], *(f"{i},{line}" for i, line in enumerate(LINES[1:]))]).encode()
NAME = "Social_Network_Ads.csv"
BUDGET = 64.0  # seconds of that time
PATIENCE = 60  # real seconds, which pass only if a test fails
PAGES = {
    "/right": RIGHT,
    "/crlf": RIGHT.replace(b"\n", b"\r\n"),
    "/indexed": INDEXED,
    "/blank-rows": RIGHT.rstrip(b"\n").replace(b"\n", b"\n,,,,\n"),
    "/wrong": WRONG,
    "/broken": b"not a table",
    "/oversize": RIGHT + b"\n" * 2_000_000,
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.stalls = []  # requests that get no answer, or none in time
        self.ended = []  # those of them that came to an end
        self.closing = threading.Event()

    def urls(self, *paths):
        return tuple(f"http://127.0.0.1:{self.server_port}{path}" for path in paths)

    def handle_error(self, request, client_address):
        pass  # clients that give up are what this is about


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/stalled":
            self.server.stalls.append(self.path)
            self.server.closing.wait(PATIENCE)
            self.server.ended.append(self.path)
        elif self.path in ("/drip", "/drip-lines"):
            self.server.stalls.append(self.path)
            self.send_response(200)
            self.end_headers()
            piece = b"\n" * 60 if self.path == "/drip-lines" else b"\n"
            for _ in range(50 * PATIENCE):
                if self.server.closing.wait(0.02):
                    break
                self.wfile.write(piece)
            self.server.ended.append(self.path)
        elif self.path in PAGES:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGES[self.path])))
            self.end_headers()
            self.wfile.write(PAGES[self.path])
        else:
            self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


class Clock:
    """Time that passes only while somebody waits for a thread that hangs: then at once, and as long as he waits."""

    def __init__(self, stalls):
        self.now, self.stalls, self.given_up = 0.0, stalls, 0

    def make_thread(self, **arguments):
        thread = threading.Thread(**arguments)
        wait = thread.join

        def join(seconds):
            while thread.is_alive() and len(self.stalls) == self.given_up:
                wait(0.01)
            if thread.is_alive():
                self.given_up += 1
                self.now += seconds

        thread.join = join
        return thread


@pytest.fixture
def clock(server, monkeypatch):
    clock = Clock(server.stalls)
    monkeypatch.setattr(ads, "time", SimpleNamespace(monotonic=lambda: clock.now, time=time.time))
    monkeypatch.setattr(ads, "threading", SimpleNamespace(Thread=clock.make_thread))
    return clock


@pytest.fixture(scope="module")
def expected():
    return fingerprint(load_ads(STAND_IN))


@pytest.fixture
def places(tmp_path, monkeypatch, expected, clock):
    """Make places with a stand-in of 20 rows and the given addresses."""
    monkeypatch.delenv("ADS_CSV", raising=False)
    monkeypatch.delenv("BATCHLAB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "stand_in.csv").write_text("\n".join([LINES[0], *LINES[-20:]]))

    def make(urls, **changes):
        settings = {"data": folder, "cache": tmp_path / "cache", "expected": expected, "budget": BUDGET}
        return ads._Places(urls=urls, **{**settings, **changes})

    return make


def load(places, capsys):
    """Load; return the table, having checked that one line was printed."""
    frame = ads._load(None, places)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("Data: ")
    assert printed.out.count("\n") == 1
    return frame


def assert_stand_in(places, frame):
    assert len(frame) == 20
    assert frame.attrs == {"source": "the synthetic stand-in", "canonical": False}
    kept = {p.name for folder in (places.data, places.cache) if folder.is_dir() for p in folder.iterdir()}
    assert kept <= {"stand_in.csv", "download-failed"}


@pytest.mark.parametrize("path", ["/right", "/crlf", "/indexed", "/blank-rows"])
def test_right_content_is_taken_and_kept(path, server, places, capsys):
    here = places(server.urls(path))
    frame = load(here, capsys)
    assert frame.attrs == {"source": "the real table (downloaded)", "canonical": True}
    assert (here.data / NAME).read_bytes() == PAGES[path]
    assert sorted(p.name for p in here.data.iterdir()) == [NAME, "stand_in.csv"]
    again = load(here, capsys)
    assert again.attrs["source"] == "the real table (in the data folder)"
    assert again.equals(frame)
    assert server.asked == [path]


@pytest.mark.parametrize("path", ["/wrong", "/broken", "/oversize", "/absent"])
def test_anything_else_is_refused_and_not_kept(path, server, places, clock, capsys):
    here = places(server.urls(path))
    frame = load(here, capsys)
    assert_stand_in(here, frame)
    assert server.asked == [path]
    assert clock.now == 0  # refused at once, not after the whole budget


def test_oversize_would_be_right_otherwise(server, places, capsys, monkeypatch):
    monkeypatch.setattr(ads, "_MAX_DOWNLOAD_BYTES", 10_000_000)
    frame = load(places(server.urls("/oversize")), capsys)
    assert frame.attrs["canonical"] is True


@pytest.mark.parametrize(
    ("first", "seconds"), [("/absent", 0), ("/wrong", 0), ("/stalled", BUDGET / 2), ("/drip", BUDGET / 2)]
)
def test_second_address_helps_when_the_first_is_bad(first, seconds, server, places, clock, capsys):
    here = places(server.urls(first, "/right"))
    frame = load(here, capsys)
    assert frame.attrs["canonical"] is True
    assert server.asked == [first, "/right"]
    assert clock.now == seconds  # half of the budget at most


@pytest.mark.parametrize("path", ["/stalled", "/drip", "/drip-lines"])
def test_slow_server_is_given_up_within_the_budget(path, server, places, clock, capsys):
    here = places(server.urls(*[path] * 4))
    frame = load(here, capsys)
    assert_stand_in(here, frame)
    assert server.asked == [path] * 4
    assert clock.now == BUDGET and server.ended == []


@pytest.mark.parametrize("path", ["/stalled", "/drip"])
def test_in_real_time_too(path, server, places, capsys, monkeypatch):
    monkeypatch.setattr(ads, "time", time)
    monkeypatch.setattr(ads, "threading", threading)
    here = places(server.urls(path), budget=0.3)
    frame = load(here, capsys)
    assert_stand_in(here, frame)
    assert server.ended == []  # nobody waited for the server's end


def test_hanging_name_server_is_given_up_within_the_budget(places, clock, capsys, monkeypatch):
    over = threading.Event()

    def hang(host, *args, **kwargs):
        clock.stalls.append(host)
        over.wait(PATIENCE)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    here = places(("http://table.invalid/a.csv", "http://table.invalid/b.csv"))
    frame = load(here, capsys)
    over.set()
    assert_stand_in(here, frame)
    assert clock.stalls == ["table.invalid"] * 2
    assert clock.now == BUDGET


def test_no_network(places, clock, capsys):
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        here = places((f"http://127.0.0.1:{closed.getsockname()[1]}/right",))
        frame = load(here, capsys)
    assert_stand_in(here, frame)
    assert clock.now == 0


def test_senseless_address(places, capsys):
    here = places(("nonsense", "http://", "http://[::1/"))
    frame = load(here, capsys)
    assert_stand_in(here, frame)


def test_failure_is_remembered_for_a_day(server, places, capsys):
    load(places(server.urls("/absent")), capsys)
    here = places(server.urls("/right"))
    marker = here.cache / "download-failed"
    assert marker.exists()
    frame = load(here, capsys)
    assert_stand_in(here, frame)
    assert server.asked == ["/absent"]

    almost_a_day_ago = time.time() - 23 * 3600
    os.utime(marker, (almost_a_day_ago, almost_a_day_ago))
    load(here, capsys)
    assert server.asked == ["/absent"]

    a_day_ago = time.time() - 25 * 3600
    os.utime(marker, (a_day_ago, a_day_ago))
    frame = load(here, capsys)
    assert frame.attrs["canonical"] is True
    assert server.asked == ["/absent", "/right"]


def test_failure_after_a_day_is_remembered_anew(server, places, capsys):
    here = places(server.urls("/absent"))
    here.cache.mkdir()
    marker = here.cache / "download-failed"
    marker.touch()
    os.utime(marker, (0, 0))
    load(here, capsys)
    load(here, capsys)
    assert server.asked == ["/absent"]


def test_marker_from_the_future_does_not_count(server, places, capsys):
    here = places(server.urls("/right"))
    here.cache.mkdir()
    marker = here.cache / "download-failed"
    marker.touch()
    os.utime(marker, (time.time() + 1e6,) * 2)
    frame = load(here, capsys)
    assert frame.attrs["canonical"] is True


def test_marker_that_cannot_be_written_is_done_without(server, places, tmp_path, capsys):
    (tmp_path / "file").touch()
    here = places(server.urls("/absent"), cache=tmp_path / "file" / "cache")
    for attempts in (1, 2):
        frame = load(here, capsys)
        assert len(frame) == 20
        assert len(server.asked) == attempts


@pytest.mark.parametrize(("value", "attempts"), [("1", 0), ("true", 0), ("0", 1), ("", 1)])
def test_offline(value, attempts, server, places, capsys, monkeypatch):
    monkeypatch.setenv("BATCHLAB_OFFLINE", value)
    frame = load(places(server.urls("/right")), capsys)
    assert len(server.asked) == attempts
    assert frame.attrs["canonical"] is bool(attempts)


def test_offline_leaves_no_marker(server, places, capsys, monkeypatch):
    here = places(server.urls("/right"))
    monkeypatch.setenv("BATCHLAB_OFFLINE", "1")
    load(here, capsys)
    monkeypatch.delenv("BATCHLAB_OFFLINE")
    frame = load(here, capsys)
    assert frame.attrs["canonical"] is True


def test_read_only_data_folder_keeps_the_table_in_the_cache(server, places, tmp_path, capsys):
    (tmp_path / "file").touch()  # nothing can be written below a file, not even by root
    here = places(server.urls("/right"), data=tmp_path / "file" / "data")
    frame = load(here, capsys)
    assert frame.attrs["source"] == "the real table (downloaded)"
    assert (here.cache / NAME).read_bytes() == RIGHT
    again = load(here, capsys)
    assert again.attrs["source"] == "the real table (in the cache folder)"
    assert again.equals(frame)
    assert server.asked == ["/right"]


def test_nowhere_to_keep_the_table(server, places, tmp_path, capsys):
    (tmp_path / "file").touch()
    below = tmp_path / "file"
    here = places(server.urls("/right"), data=below / "data", cache=below / "cache")
    for _ in range(2):
        frame = load(here, capsys)
        assert frame.attrs["source"] == "the real table (downloaded)"
    assert server.asked == ["/right", "/right"]


def test_cache_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    assert ads._Places().cache_folder() == tmp_path / "batch-size-lab"


def test_addresses_are_pinned_to_commits():
    assert ads._Places().urls == ads.URLS and len(set(ads.URLS)) > 1  # so that one that is gone is no loss
    for url in ads.URLS:
        server, _, rest = url.removeprefix("https://").partition("/")
        assert server == "raw.githubusercontent.com"
        commit = rest.split("/")[2]
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")
        assert url.endswith("/" + NAME)
    assert ads._Places().budget <= 5
