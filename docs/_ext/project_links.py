"""README and what else stands at the top as pages; files named in a text lead to their place in the API."""
import ast
import functools
import re

from api_pages import ROOT, modules, write

FOLDER = ROOT / "docs" / "project"
PAGES = tuple(sorted(path.stem for path in ROOT.glob("*.md")))
PLACE = re.compile(r"`(npdvae/[\w/]+)\.py(?::(\w+))?`")
ABOVE = re.compile(rf"\]\((?:\.\./)+({'|'.join(PAGES)})\.md")
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ ]*$", re.M | re.S)


@functools.cache
def target(module, function):
    """The documented name that a function of a file belongs to: itself, or its class where it has no docstring."""
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    for scope in [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))]:
        for node in scope.body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                inside = f"{module}.{scope.name}" if isinstance(scope, ast.ClassDef) else module
                return f"{inside}.{function}" if ast.get_docstring(node) else inside
    raise ValueError(f"{module}: no function {function}")


def link(match):
    """`npdvae/file.py:function` as a link to what the API says of it."""
    path, function = match.groups()
    module = path.replace("/", ".")
    if module not in KNOWN:
        return match[0]
    name = target(module, function) if function else module
    return f"{{py:{'obj' if function else 'mod'}}}`{match[0].strip('`')} <{name}>`"


KNOWN = set(modules(ROOT / "npdvae"))


def outside_fences(change, text):
    """Apply a change to the parts of a page that are no code."""
    parts, last = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[last:fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, change(text[last:])])


def others(match, text):
    """The pages of a folder that the index does not name, for a line `folder/*` of it."""
    pages = sorted((ROOT / "docs" / match[1]).glob("*.md"))
    return "\n".join(f"{match[1]}{p.stem}" for p in pages if p.stem != "index" and not re.search(
        rf"^{match[1]}{p.stem}$|<{match[1]}{p.stem}>", text, re.M))


def read(app, docname, source):
    """Links to the API, and to the pages of the repository's top, on every Markdown page."""
    if (ROOT / "docs" / f"{docname}.md").exists():
        text = outside_fences(lambda text: PLACE.sub(link, text), source[0])
        source[0] = ABOVE.sub(lambda match: f"](/project/{match[1].lower()}.md", text)
    if docname == "index":
        source[0] = re.sub(r"^((?:[a-z]+/)?)\*$", lambda match: others(match, source[0]), source[0], flags=re.M)


def moved(text):
    """A page of the repository's top as one of docs/project: its links to other files."""
    def one(match):
        path = match[1]
        if path.startswith("docs/"):
            return f"](../{path[5:]}"
        return f"]({path.lower()}" if path.removesuffix(".md") in PAGES else match[0]
    return re.sub(r"\]\(([\w./-]+)", one, text)


def generate(app):
    """docs/project/*.md, from the files of the same names."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        write(FOLDER / f"{name.lower()}.md", outside_fences(moved, (ROOT / f"{name}.md").read_text()))


def setup(app):
    app.connect("builder-inited", generate)
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
