"""A headless Chromium that notes what goes wrong in it, and where it goes."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; without one the test is skipped, or fails where RETAIL_STREAM_BROWSER=required."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("RETAIL_STREAM_BROWSER") == "required" else pytest.skip)(
            "There is no chromium on the PATH (Debian's package `chromium`): the page is not tested."
        )
    with sync_playwright() as playwright:
        # Root has no sandbox, and /dev/shm is small in containers.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
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
