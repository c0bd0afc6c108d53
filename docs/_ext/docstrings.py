"""Docstrings as they are written here, plain text with `code` in backticks, and fields with the comment beside them."""
import ast
import dataclasses
import inspect
import re
import textwrap

import api_pages
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

from npdvae.config import Config

TEXT = re.compile(r"``.*?``|`[^`]*`|[^`]+|`", re.S)
SPECIAL = re.compile(r"([*|\\_<>\[\]])")


def plain(text):
    """Text with backticks as reStructuredText that holds no other markup."""
    def one(piece):
        if len(piece) > 1 and piece.startswith("`"):
            return f"``{piece.strip('`')}``"
        return SPECIAL.sub(r"\\\1", piece)
    return "".join(one(m) for m in TEXT.findall(text))


def process(app, what, name, obj, options, lines):
    """A docstring's paragraphs; indented blocks stay as they stand."""
    if any(line.startswith("Alias for field number") for line in lines):
        lines.clear()
    out: list[str] = []
    for block in "\n".join(lines).split("\n\n"):
        indented = block.startswith(" ")
        out += ["::", "", *block.split("\n"), ""] if indented else [*plain(block).split("\n"), ""]
    lines[:] = out


def field_comments(source):
    """(class or "", name) and the comment beside it, for every annotated field and alias of a module."""
    lines, tree = source.splitlines(), ast.parse(source)
    for name, body in [("", tree.body)] + [(n.name, n.body) for n in tree.body if isinstance(n, ast.ClassDef)]:
        for node in (n for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)):
            for line in lines[node.lineno - 1:node.end_lineno]:
                if "  # " in line:
                    yield (name, node.target.id), line.split("  # ", 1)[1]


def add_field_comments(app):
    """Tell autodoc of them, and of the help texts of the options, as if each stood in a docstring."""
    for name in api_pages.modules(api_pages.ROOT / "npdvae"):
        analyzer = ModuleAnalyzer.for_module(name)
        analyzer.analyze()
        found = dict(field_comments(analyzer.code))
        if name == "npdvae.config":
            found |= {("Config", f.name): f.metadata["help"] for f in dataclasses.fields(Config)}
        for key, text in found.items():
            analyzer.attr_docs.setdefault(key, [text, ""])


def skip(app, what, name, obj, skipped, options):
    """Leave out what a module has imported from another package."""
    if what == "module" and (inspect.isclass(obj) or inspect.isroutine(obj)):
        return True if not (getattr(obj, "__module__", None) or "").startswith("npdvae") else None
    return None


def signature(app, what, name, obj, options, signature, returns):
    """Arguments and result as the source spells them: `Array` and not what it stands for."""
    if what == "class":
        if "__init__" not in vars(obj) or dataclasses.is_dataclass(obj):
            fields = getattr(obj, "_fields", None) or getattr(obj, "__dataclass_fields__", None)
            return f"({', '.join(fields)})" if fields and len(fields) < 12 else "(...)" if fields else "", None
        obj = obj.__init__
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    places = node.args.posonlyargs + node.args.args
    if places and places[0].arg in ("self", "cls") and what in ("class", "method"):
        (node.args.posonlyargs or node.args.args).pop(0)
    named = Named(getattr(inspect.unwrap(obj), "__globals__", {}))
    shown = node.returns if what != "class" else None
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg) and argument.annotation:
            argument.annotation = named.visit(argument.annotation)
    return f"({ast.unparse(node.args)})", shown and ast.unparse(named.visit(shown))


class Named(ast.NodeTransformer):
    """Classes of the package in an annotation by their full names, shown short: several are called Layer."""

    def __init__(self, names):
        self.names = names

    def visit_Name(self, node):
        found = self.names.get(node.id)
        if inspect.isclass(found) and found.__module__.startswith("npdvae.") and "<" not in found.__qualname__:
            return ast.UnaryOp(ast.Invert(), ast.Name(f"{found.__module__}.{found.__qualname__}", ast.Load()))
        return node


def resolve(app, env, node, contnode):
    """Names in annotations: aliases and classes of the package are linked, those of other packages stay text."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "obj", "data"):
        return None
    target = node["reftarget"]
    objects = env.domains["py"].objects
    found = [name for name in objects if name == target or name.endswith("." + target)] if target[:1] != "." else []
    if f"npdvae.types.{target}" in objects:
        found = [f"npdvae.types.{target}"]
    if len(found) == 1:
        entry = objects[found[0]]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0])
    return None if target.startswith("npdvae.") else contnode.deepcopy()


def setup(app):
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("builder-inited", add_field_comments)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
