"""A headless Chromium that notes what goes wrong in it, and where it goes."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.harness.eventually import eventually
from tests.harness.tools import tool

#: Playwright's five seconds are few on a machine that other tests keep busy.
_TIMEOUT_MS = 60_000
expect.set_options(timeout=_TIMEOUT_MS)


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
    """A page, and what was seen of it: errors in its console, and the hosts that it asked.

    ``a_server_was_away``: set it, and answers of 503, which a browser notes as errors, are none of ``errors`` any more.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.a_server_was_away = False
        self.hosts: set[str | None] = set()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(_TIMEOUT_MS)
        self.page.on("console", lambda m: self._note(m.type, m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).hostname))

    def _note(self, kind: str, text: str) -> None:
        refused = self.a_server_was_away and "status of 503" in text
        if kind in ("error", "warning") and not refused:
            self.errors.append(text)


def wait_until_served(url: str) -> None:
    def answers() -> bool:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return answer.status == 200

    eventually(answers, "the dashboard listens", retry_on=OSError)


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def shown(page: Page, table: str) -> list[list[str]]:
    """The texts of a table's cells."""
    return page.eval_on_selector_all(
        f"{table} tbody tr", "rows => rows.map(r => [...r.children].map(c => c.innerText))"
    )


def become_the_same(shown: Callable[[], object], wanted: Callable[[], object]) -> None:
    """Look at both sides until they are the same: the page is a second behind."""
    eventually(lambda: shown() == wanted(), lambda: f"the page shows {wanted()}; it shows {shown()}", every_s=0.5)


def show_history(page: Page, entity: str, words: str) -> None:
    """By keyboard alone."""
    page.locator("#history-form select").focus()
    page.keyboard.type(entity)
    page.keyboard.press("Tab")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    first = page.locator("#found button").first
    first.wait_for()
    first.focus()
    page.keyboard.press("Enter")
    page.locator(".versions li").first.wait_for()
