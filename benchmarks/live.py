"""How fast networks run in the page of `spiking-lfp report --live`, in Chromium.

    python benchmarks/live.py

Presses "Measure speed" in the pages of the networks in the package, and of one as large as the paper's MLP, a second
each time, and keeps the best. Adds a JSON line for each to docs/experiments/live.jsonl, of which
`python benchmarks/tables.py` makes the table in docs/hardware.md. Needs Chromium (Debian's package chromium).
"""

import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated, Any
from urllib.parse import unquote

import torch
import typer
from methods import digits
from pretrained import layers as layers_of
from records import KEPT, add
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.live import write_live
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import network_names, network_path

# presses the button, and tells what is said beside it by going to another address
MEASURE = """<script>ready.then(async () => {
  const said = [];
  for (let k = 0; k < TIMES; k++) {
    document.getElementById("measure").click();
    said.push(document.getElementById("measured").textContent);
    await new Promise(next => setTimeout(next, 50));
  }
  location = "/said?" + encodeURIComponent(said.join(";"));
});</script></body>"""


def main(
    times: Annotated[int, typer.Option(help="How often to measure.", min=1)] = 5,
    output: Path = KEPT / "live.jsonl",
) -> None:
    """Measure each page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no chromium here: install it, as by apt-get install chromium")
    version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=True).stdout.split()
    networks: dict[str | None, IntegerNetwork] = {name: load_network(network_path(name)) for name in network_names()}
    for name, network in {**networks, None: large()}.items():
        with TemporaryDirectory() as folder:
            page = Path(folder) / "live.html"
            write_live(page, network)
            size = page.stat().st_size
            said = measured(browser, Path(folder), page.read_text("utf-8"), times)
        rates = [int(each.partition(" ")[0].replace(",", "")) for each in said]
        line = {
            "network": name, "sizes": layers_of(network), "T": network.steps, "kB": round(size / 1000),
            "samples a second": max(rates), "browser": " ".join(version[:2]),
        }  # fmt: skip
        print(line, rates, flush=True)
        add(output, line, 1)


def large() -> IntegerNetwork:
    """Return a network of the size of the paper's MLP, with random weights."""
    torch.manual_seed(0)
    layers = [lfp.LIF(nn.Linear(inputs, outputs), 0.9) for inputs, outputs in ((784, 1000), (1000, 1000), (1000, 10))]
    network = nn.Sequential(lfp.Flatten(), *layers)
    with TemporaryDirectory() as folder:
        return lfp.export(network, digits(500), steps=25, out=folder).network


def measured(browser: str, folder: Path, page: str, times: int) -> list[str]:
    """Return what the page says of its speed, each time."""
    said: Queue[str] = Queue()
    content = page.replace("</body>", MEASURE.replace("TIMES", str(times))).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/said":
                said.put(unquote(query))
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content if path == "/" else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    process = subprocess.Popen(
        [browser, *options, f"http://127.0.0.1:{server.server_port}/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return said.get(timeout=120).split(";")
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    typer.run(main)
