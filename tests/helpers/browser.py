"""A browser without a screen, for tests of pages."""

import json
import re
import shutil
import subprocess
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def chromium(folder: Path, *arguments: str, budget: int | None = 3000) -> str:
    """Run a browser without a screen and return what it prints.

    `budget` are milliseconds that the page takes to be for itself; None lets it run until it has loaded everything, in
    true time, which decoders and compilers of the browser need.
    """
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    if budget is not None:
        command.insert(1, f"--virtual-time-budget={budget}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def frames(folder: Path, pages: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """What pages say by `parent.postMessage({frame: name, ...})`, each in a frame of its width, by name.

    An image that comes late keeps the browser waiting. Frames are made when the browser has the focus: on a busy
    machine it begins with a page before that, and no element of such a page is `:focus-visible`.
    """
    done = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            if name == "done":
                done.set()
            elif name == "late":
                done.wait(60)
            content = pages[name][0] if name in pages else outer if name == "outer" else ""
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            pass

    tags = (
        f'<iframe name="{name}" src="/{name}" style="width: {width}px; height: 900px"></iframe>'
        for name, (_, width) in pages.items()
    )
    outer = (
        "<body><script>const all = {}; onmessage = ({ data }) => { all[data.frame] = data;"
        "document.documentElement.dataset.all = JSON.stringify(all);"
        f'if (Object.keys(all).length === {len(pages)}) fetch("/done"); }};'
        f"const begin = () => document.body.insertAdjacentHTML('beforeend', `{''.join(tags)}`);"
        'if (document.hasFocus()) begin(); else addEventListener("focus", begin, { once: true });'
        '</script><img src="/late"></body>'
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = chromium(folder, "--dump-dom", f"http://127.0.0.1:{server.server_port}/outer", budget=None)
    finally:
        server.shutdown()
        server.server_close()
    root = re.search(r'data-all="([^"]*)"', page)
    assert root is not None
    found: dict[str, Any] = json.loads(unescape(root[1]))
    return found
