"""Pictures of the page in every state, beside a real pipeline: `python -m tests.system.pictures FOLDER [SECONDS]`.

Starts one pipeline on servers of its own and brings it into each state: no data, the first minute, a steady state after
SECONDS (240) of traffic, a module that does not load, a killed service, a backlog, and Postgres away. Of each it writes
FOLDER/<state>-<width>-<scheme>.png, at three widths, light and dark. `dashboard-light.png` and `dashboard-dark.png` are
the upper part of the steady state, for docs/. Needs a Chromium on the PATH.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from playwright.sync_api import Browser, Page, ViewportSize

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import Server
from commands.embedded.settings import free_ports
from commands.init import initialise
from retail_stream.settings import Connections
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import connections_of, init_settings_of, private_stack
from tests.system.browser import chromium, get, show_history, wait_until_served

SIZES: tuple[ViewportSize, ...] = (
    {"width": 1440, "height": 900}, {"width": 1024, "height": 900}, {"width": 390, "height": 844},
)  # fmt: skip
#: Windows that are short enough to be final while the pictures are taken.
SETTINGS = {
    "SALES_WINDOWS": "10s,1m/30s", "WATERMARK_DELAY_S": "5", "ALLOWED_LATENESS_S": "30",
    "GENERATOR_FAULT_LATE_EVENT": "0.01",
}  # fmt: skip
#: A peer that holds the aggregator's positions: it waits, and sales pile up.
_HOLD = "SELECT FROM pipeline.consumer_positions WHERE consumer_group = 'aggregator' FOR UPDATE"


class Pictures:
    """Takes the pictures of one state after the other."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self.browser, self.url, self.folder = browser, url, folder

    def look(self) -> Any:
        """The page's newest snapshot."""
        return get(f"{self.url}/api/look")[1]

    def until(self, holds: Callable[[Any], object], what: str) -> None:
        """Wait for a snapshot that ``holds``."""
        eventually(lambda: bool(holds(self.look())), lambda: f"{what}; {self.look()}", PATIENCE_S, every_s=0.5)

    def take(self, state: str, opened: Callable[[Page], object] = lambda _: None, without: str | None = None) -> None:
        """All pictures of a state. ``opened``: gets each page. ``without``: a module that does not load."""
        for size in SIZES:
            for scheme in ("light", "dark"):
                context = self.browser.new_context(
                    viewport=size, color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce"
                )
                page = context.new_page()
                if without is not None:
                    page.route(f"**/{without}*", lambda route: route.abort())
                page.goto(self.url)
                page.locator("#verdict .mark").first.wait_for()
                for panel in ("records", "partitions"):
                    page.locator(f"#{panel} tbody tr, #{panel} .failed").first.wait_for()
                opened(page)
                # The head sticks to the top of the window: where the page stands, it stands in the picture.
                page.evaluate("scrollTo(0, 0)")
                # Charts are drawn once their panel has its width.
                page.wait_for_timeout(1000)
                page.screenshot(path=self.folder / f"{state}-{size['width']}-{scheme}.png", full_page=True)
                if state == "steady" and size["width"] == SIZES[0]["width"]:
                    self._of_docs(page, scheme)
                context.close()
        print(state, flush=True)

    def _of_docs(self, page: Page, scheme: str) -> None:
        below = page.evaluate("document.querySelector('#records').getBoundingClientRect().top")
        clip = {"x": 0, "y": 0, "width": SIZES[0]["width"], "height": below}
        page.screenshot(path=self.folder / f"dashboard-{scheme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]


def main(folder: Path, seconds: float) -> int:
    """Take the pictures; returns 0."""
    folder.mkdir(parents=True, exist_ok=True)
    with private_stack() as stack, ProcessGroup() as group, TemporaryDirectory() as logs, chromium() as browser:
        initialise(init_settings_of(stack), patience_s=PATIENCE_S)
        connections: Connections = connections_of(stack)
        pipeline = Pipeline(group, {**stack.env, **SETTINGS}, Path(logs))
        url = pipeline.start_dashboard(free_ports(1)[0])
        wait_until_served(url)
        pictures = Pictures(browser, url, folder)

        pictures.until(lambda now: "stream" in now and "verdict" in now, "the page has read every server")
        pictures.take("no-data")

        began = time.monotonic()
        for service in Service:
            pipeline.start(service)
        pictures.until(lambda now: any(w["rows"] for w in now["windows"]), "the first window is there")
        pictures.until(lambda now: not now["verdict"]["findings"], "all is well")
        pictures.take("first-minute")

        eventually(lambda: time.monotonic() - began > seconds, "traffic", seconds + PATIENCE_S, every_s=1)
        pictures.until(lambda now: not now["verdict"]["findings"], "all is well")
        pictures.take("steady", lambda page: show_history(page, "products", "1"))
        pictures.take("no-module", without="panels/lateness.js")

        pipeline.processes[Service.SCD_MERGER].kill()
        pictures.until(lambda now: re.search("SCD merger is down", str(now["verdict"])), "the merger is down")
        pictures.take("killed")
        pipeline.start(Service.SCD_MERGER)
        pictures.until(lambda now: not now["verdict"]["findings"], "all is well")

        with psycopg.connect(connections.database_url) as peer:
            peer.execute(_HOLD)
            pictures.until(lambda now: re.search("behind, [67]. s of work", str(now["verdict"])), "sales pile up")
            pictures.take("backlog")
        pictures.until(lambda now: not now["verdict"]["findings"], "all is well")

        stack.kill(Server.POSTGRES)
        pictures.until(lambda now: "warehouse" in now["problems"], "Postgres is named")
        pictures.take("away")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        print("Give the folder for the pictures, and the seconds of traffic if not 240.", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) == 3 else 240.0))
