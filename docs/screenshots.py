"""Screenshots of the dashboard, light and dark: `python docs/screenshots.py [URL]` beside `make up`.

Needs a Chromium on the PATH. Writes docs/dashboard-light.png and docs/dashboard-dark.png.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
WIDTH = 1440


def main(url: str) -> int:
    """Write both files; returns 0, or 2 without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("No chromium on the PATH; install it, for example with: apt install chromium", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = chromium.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto(url)
            page.locator("#windows canvas").wait_for()
            page.locator("#quality canvas").wait_for()
            page.locator("#letter-list tbody tr").first.wait_for()
            page.locator("#record-list tbody tr").first.wait_for()
            # The head sticks to the top of the window: where the page stands, it stands in the picture.
            page.evaluate("scrollTo(0, 0)")
            below = page.evaluate("document.querySelector('#records').getBoundingClientRect().top")
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": below}
            page.screenshot(path=HERE / f"dashboard-{scheme}.png", full_page=True, clip=clip)
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
