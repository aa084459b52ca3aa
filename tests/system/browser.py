"""A headless Chromium that notes what goes wrong in it, and where it goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.harness.tools import tool


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium."""
    path = tool("chromium", "chromium-browser", "google-chrome", package="chromium")
    with sync_playwright() as playwright:
        # Root has no sandbox, and /dev/shm is small in containers.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Visit:
    """A page, and what was seen of it: errors in its console, and the hosts that it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.hosts: set[str | None] = set()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).hostname))
