"""Pictures of pages, as the docs show them, by the Chromium of this machine.

python tools/screens.py RUN/report.html --click "[data-image='7']" --out docs/show/report.png
"""

import argparse
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 256  # of a picture: pages have few, and files stay small
PATIENCE = 120_000  # milliseconds


@contextmanager
def page_of(address: str, width: int, height: int) -> Iterator[Any]:
    """A page in a headless browser, in a window of that size."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("no browser: install chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        yield page
        browser.close()


def save(page: Any, out: Path, selector: str = "") -> None:
    """Write what the window shows, or an element of the page."""
    page.wait_for_timeout(500)  # canvases draw
    shown = page.locator(selector).first if selector else page
    save_picture(Image.open(io.BytesIO(shown.screenshot())), out)


def save_picture(picture: Image.Image, out: Path) -> None:
    """Write a small PNG."""
    out.parent.mkdir(parents=True, exist_ok=True)
    few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(out, optimize=True)
    print(f"{out}: {picture.width} x {picture.height}, {out.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Take a picture of one page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, metavar="PAGE.html")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--size", default="1280x1000", help="of the window (default: 1280x1000)")
    parser.add_argument("--of", default="", metavar="SELECTOR", help="one element of the page")
    parser.add_argument("--click", default="", metavar="SELECTOR", help="what is clicked before")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with page_of(options.page.resolve().as_uri(), width, height) as page:
        if options.click:
            page.locator(options.click).first.click()
        save(page, options.out, options.of)


if __name__ == "__main__":
    main()
