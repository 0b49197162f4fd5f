"""A headless Chromium that opens pages for tests, and collects the errors of their scripts."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
"""No graphics card, and no connection of the browser's own."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, and close it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("tests of pages need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str | Path, **context: Any) -> Iterator[Page]:
    """Open a page, and fail at the end if it has logged an error or asked for anything from the network.

    Args:
        browser: the browser.
        address: a file, or a URL, whose own host the page may ask.
        context: options of the browser's context, such as `color_scheme="dark"` or `viewport`.
    """
    url = address if isinstance(address, str) else address.resolve().as_uri()
    host = url.split("/")[2]
    problems: list[str] = []
    tab = browser.new_context(**context)
    page = tab.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            problems.append(f"asked for {request.url}")
            if request.url.startswith("http") and request.url.split("/")[2] != host
            else None
        ),
    )
    page.goto(url)
    yield page
    tab.close()
    assert not problems, "\n".join(problems)
