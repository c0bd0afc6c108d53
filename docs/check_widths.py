"""python docs/check_widths.py [FOLDER]: no built page is wider than its window (Chromium; pip install ".[browser]")."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from tests.browser import launched

WIDTHS = 360, 800, 1100, 1320, 1600             # between the theme's breaks at 46, 63 and 67, 82, 97 em


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
    """Print the faults; 1 where there is one."""
    found = list(faults(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build").resolve()))
    print("\n".join(found) or "every page is as wide as its window")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
