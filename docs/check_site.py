"""python docs/check_site.py [FOLDER]: inner links and anchors of the built pages, figures in chapters, no network."""
import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """What a page names and what it points to."""

    def __init__(self, path):
        super().__init__()
        self.names, self.links, self.loads, self.figures = set(), [], [], 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.figures += tag == "img"
        if tag in ("img", "script", "link", "source", "iframe"):
            self.loads += [given[key] for key in ("src", "href") if given.get(key)]


def faults(folder):
    """Lines that say what is wrong, of every page."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    yield from (f"{path}: no figure" for path in pages if path.parent.name == "guide" and not pages[path].figures)
    for path, page in pages.items():
        for target in page.links + page.loads:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    yield f"{path}: loads {target}"
                continue
            file = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not file.exists():
                yield f"{path}: {target}: no such file"
            elif parts.fragment and file in pages and urllib.parse.unquote(parts.fragment) not in pages[file].names:
                yield f"{path}: {target}: no such anchor"


def main():
    """Print the faults; 1 where there is one, or no page at all."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build").resolve()
    found = list(faults(folder))
    print("\n".join(found) or "all inner links lead somewhere")
    return int(bool(found) or not (folder / "index.html").is_file())


if __name__ == "__main__":
    sys.exit(main())
