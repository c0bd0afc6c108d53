"""python docs/check_widths.py [FOLDER]: no built page is wider than its window (Chromium; pip install ".[browser]")."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from tests.browser import launched

WIDTHS = 360, 800, 1040, 1100, 1320, 1600       # between the theme's breaks at 46, 63, 67, 82 and 97 em of 16


def faults(folder):
    """Lines that name a page and the width of the window that it overflows."""
    with launched() as browser:
        page = browser.new_page()
        for path in sorted(p for p in folder.rglob("*.html") if "_modules" not in p.parts):     # all of a kind
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                reached = page.evaluate("document.documentElement.scrollWidth")
                if reached > width:
                    yield f"{path}: {reached} pixels wide in a window of {width}"


def main():
    """Print the faults; 1 where there is one, or no page at all; 2 without Chromium or playwright."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build").resolve()
    if not (folder / "index.html").is_file():
        print(f"{folder}: no pages there")
        return 1
    try:
        found = list(faults(folder))
    except pytest.skip.Exception as missing:
        print(missing)
        return 2
    print("\n".join(found) or "every page is as wide as its window")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
