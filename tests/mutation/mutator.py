"""Mutants of a module: one small fault each, made in its syntax tree and put into the live functions.

Faults: sign flips, dropped operands, + for -, * for /, constants one off, axis and keepdims lost, transposes lost,
mean for sum, max for min, log for log1p, swapped arms of where and of conditional expressions, comparisons off by
their edge or turned, += lost or made =, an assignment left stale, a returned value negated. Left alone: error
checks (`if ...: raise`), messages, annotations, decorators.
"""
import ast
import copy
import functools
import importlib
import inspect
import pkgutil
import sys
import types
from typing import NamedTuple

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
             ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.BitXor: ast.BitOr, ast.BitAnd: ast.BitOr,
             ast.BitOr: ast.BitAnd, ast.RShift: ast.LShift, ast.LShift: ast.RShift}
COMPARISONS = {ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt), ast.Lt: (ast.LtE, ast.Gt),
               ast.LtE: (ast.Lt, ast.Gt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
               ast.IsNot: (ast.Is,)}
NAMES = {"mean": ["sum"], "sum": ["mean", "max"], "max": ["min"], "min": ["max"], "argmax": ["argmin"],
         "argmin": ["argmax"], "exp": ["expm1"], "log": ["log1p"], "log1p": ["log"], "maximum": ["minimum"],
         "minimum": ["maximum"], "prod": ["sum"], "cumsum": ["cumprod"], "zeros": ["ones"], "ones": ["zeros"],
         "zeros_like": ["ones_like"], "ones_like": ["zeros_like"], "sqrt": ["square"], "floor": ["ceil"],
         "ceil": ["floor"], "any": ["all"], "all": ["any"]}
UNWRAPPED = {"exp", "log", "abs", "sqrt", "square", "log1p", "sign", "fsum"}
COMMANDS = ("__main__", "calibration")          # modules that are commands: they print, nothing else calls them
GIVEN_ONE = (ast.Call, ast.BinOp, ast.UnaryOp, ast.Name, ast.Subscript, ast.Tuple, ast.Attribute)


class Mutant(NamedTuple):
    """One fault: where it is, what it is, and the function or module statement that it changes."""

    module: str
    scope: str                                  # qualified name of the function; "" for a module-level constant
    place: str                                  # the same, or the name of the constant
    site: int                                   # index among the sites of the module
    line: int
    text: str                                   # the whole line as written
    fault: str                                  # numbered among those of the place that read the same

    @property
    def key(self):
        """What the list of equivalents knows it by: the same after a rename, a reformatting, or an edit elsewhere."""
        return f"{self.module}:{self.place}: {self.fault}"


def source_tree(module):
    """Path, source lines and syntax tree of a module."""
    path = inspect.getsourcefile(importlib.import_module(module))
    with open(path) as file:
        source = file.read()
    return path, source.splitlines(), ast.parse(source)


def mutants(module):
    """All mutants of a module, in source order."""
    _, lines, tree = source_tree(module)
    return mutants_of(module, lines, tree)


def mutants_of(module, lines, tree):
    """All mutants of a syntax tree; faults of one function or constant that read the same are numbered."""
    found, seen = [], {}
    for index, (scope, node, fault, _) in enumerate(sites(tree)):
        place = scope or constant(tree, node)
        n = seen[place, fault] = seen.get((place, fault), 0) + 1
        text = lines[node.lineno - 1].split("  #")[0].strip()
        found.append(Mutant(module, scope, place, index, node.lineno, text, fault if n == 1 else f"{fault} #{n}"))
    return found


def constant(tree, node):
    """The name that the module-level assignment around a node binds first."""
    statement = next(s for s in tree.body if contains(s, node))
    return next(n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def sites(tree):
    """(scope, node, fault, change) of every possible fault; change(node) returns the node to put in its place."""
    return [site for scope, body in scopes(tree) for root in body for site in sites_within(scope, root)]


def scopes(tree, prefix=""):
    """(qualified name, statements) of every function, methods and defaults included, and of module constants."""
    for node in tree.body if isinstance(tree, ast.Module | ast.ClassDef) else ():
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body]
        elif isinstance(node, ast.ClassDef):
            yield from scopes(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign) and not prefix:
            yield "", [node]


def sites_within(scope, root):
    """The sites below one statement, error checks and messages left out."""
    queue = [root]
    while queue:
        node = queue.pop(0)
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert) or is_check(node) or is_docstring(node):
            continue
        yield from ((scope, node, fault, change) for fault, change in faults(node))
        children = [] if is_negative(node) else list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape":
            children = [c for c in children if not is_negative(c)]  # -2 asks for the same as -1
        if isinstance(node, ast.AnnAssign):
            children = [node.value] if node.value else []
        if isinstance(node, ast.FunctionDef):
            children = node.body
        queue = children + queue


def is_check(node):
    return isinstance(node, ast.If) and len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and not node.orelse


def is_negative(node):
    """A number with a minus sign, one constant."""
    return (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
            and type(node.operand.value) in (int, float))


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def faults(node):
    """(description, change) for one node."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield f"{sign(node.op)} to {sign(OPERATORS[type(node.op)]())}", put("op", OPERATORS[type(node.op)]())
        if not isinstance(node.left, ast.List) and not isinstance(node.right, ast.List):
            yield f"left of {sign(node.op)} only", lambda n: n.left
            yield f"right of {sign(node.op)} only", lambda n: n.right
    elif is_negative(node):
        for step in (1, -1):
            yield f"-{node.operand.value!r} {step:+d}", lambda n, s=step: ast.Constant(s - n.operand.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "sign lost" if isinstance(node.op, ast.USub) else "not lost", lambda n: n.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS.get(type(node.ops[0]), ()):
            yield f"{sign(node.ops[0])} to {sign(other())}", put("ops", [other()])
    elif isinstance(node, ast.BoolOp):
        yield "and to or" if isinstance(node.op, ast.And) else "or to and", put(
            "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for step in (1, -1):
            yield f"{node.value!r} {step:+d}", put("value", node.value + step)
    elif isinstance(node, ast.Attribute):
        for other in NAMES.get(node.attr, ()):
            yield f"{node.attr} to {other}", put("attr", other)
        if node.attr in ("T", "real"):
            yield f".{node.attr} lost", lambda n: n.value
    elif isinstance(node, ast.Call):
        yield from call_faults(node)
    elif isinstance(node, ast.IfExp):
        yield "arms swapped", lambda n: ast.IfExp(n.test, n.orelse, n.body)
    elif isinstance(node, ast.If | ast.While):
        yield "condition turned", lambda n: put("test", ast.UnaryOp(ast.Not(), n.test))(n)
    elif isinstance(node, ast.AugAssign):
        yield f"{sign(node.op)}= lost", lambda n: ast.Pass()
        yield f"{sign(node.op)}= to =", lambda n: ast.Assign([n.target], n.value)
        if type(node.op) in OPERATORS:
            yield f"{sign(node.op)}= to {sign(OPERATORS[type(node.op)]())}=", put("op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Assign) and rebinds(node):
        yield "assignment lost", lambda n: ast.Pass()
    elif isinstance(node, ast.Return) and isinstance(node.value, GIVEN_ONE) and not makes_object(node.value):
        yield "result negated", lambda n: put("value", negated(n.value))(n)


def call_faults(node):
    """Faults of a call: keywords lost, arms of where swapped, an elementwise function lost."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("axis", "keepdims", "where", "initial", "minlength"):
            yield f"{keyword.arg} lost", lambda n, i=i: put("keywords", n.keywords[:i] + n.keywords[i + 1:])(n)
    if name == "where" and len(node.args) == 3:
        yield "arms swapped", lambda n: put("args", [n.args[0], n.args[2], n.args[1]])(n)
    if name in UNWRAPPED and len(node.args) == 1:
        yield f"{name} lost", lambda n: n.args[0]


def rebinds(node):
    """x = ... x ...: without it, x stays stale."""
    names = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return bool(names & {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)})


def makes_object(node):
    """A call of a class: Draw(...), or something that is not a number."""
    name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else "x"
    return name[:1].isupper() or name in ("tuple", "dict", "sorted")


def negated(value):
    if isinstance(value, ast.Tuple):
        return ast.Tuple([ast.UnaryOp(ast.USub(), e) for e in value.elts], ast.Load())
    return ast.UnaryOp(ast.USub(), value)


def put(field, value):
    """A change that sets one field of a copy of the node."""
    def change(node):
        node = copy.copy(node)
        setattr(node, field, value)
        return node
    return change


def sign(operator):
    """How an operator is written."""
    return {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "Pow": "**", "FloorDiv": "//", "Mod": "%", "MatMult": "@",
            "BitXor": "^", "BitAnd": "&", "BitOr": "|", "RShift": ">>", "LShift": "<<", "Gt": ">", "GtE": ">=",
            "Lt": "<", "LtE": "<=", "Eq": "==", "NotEq": "!=", "Is": "is", "IsNot": "is not"}[type(operator).__name__]


class Bench:
    """One module, ready to have any of its mutants put into the live functions and taken out again."""

    def __init__(self, module):
        self.module = importlib.import_module(module)
        self.path, _, self.tree = source_tree(module)
        self.sites = sites(self.tree)
        written = {scope for scope, _ in scopes(self.tree)}
        self.functions = {name: f for name, f in live_functions(self.module) if name in written}
        self.saved = {}

    def put_in(self, mutant):
        """Swap the code and the defaults, or the constant, that the mutant changes."""
        _, node, _, change = self.sites[mutant.site]
        tree = ast.fix_missing_locations(Replace(node, change).visit(copy_but(self.around(node), node)))
        if not mutant.scope:
            self.put_constant(tree.body[-1])
            return
        function = self.functions[mutant.scope]
        code = next(c for c in codes(compile(tree, self.path, "exec")) if c.co_qualname == mutant.scope)
        if code.co_freevars != function.__code__.co_freevars:
            raise ValueError("the mutant closes over other variables")
        self.saved = {(function, "__code__"): function.__code__}
        function.__code__ = code
        self.put_defaults(function, find(tree, mutant.scope))

    def around(self, node):
        """A module of the statement around a node and what the compiler must know: the rest need not be compiled."""
        known = [s for s in self.tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
        return ast.Module([*known, next(s for s in self.tree.body if contains(s, node))], [])

    def put_constant(self, statement):
        """Evaluate the changed statement, for all who import what it assigns, and the defaults that read it."""
        names = {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        values = dict(vars(self.module))
        exec(compile(ast.Module([statement], []), self.path, "exec"), values)
        holders = [(self.module, name, name) for name in names] + [
            (module, held, name) for module, held, name in importers(self.module.__name__) if name in names]
        self.saved = {(module, held): getattr(module, held) for module, held, _ in holders}
        for module, held, name in holders:
            setattr(module, held, values[name])
        for scope, function in self.functions.items():
            definition = find(self.tree, scope)
            if any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(definition.args)):
                self.put_defaults(function, definition)

    def put_defaults(self, function, definition):
        values = dict(vars(self.module))
        for name in ("__defaults__", "__kwdefaults__"):
            self.saved[function, name] = getattr(function, name)
        if function.__defaults__:
            function.__defaults__ = tuple(evaluate(d, values) for d in definition.args.defaults)
        if function.__kwdefaults__:
            function.__kwdefaults__ = {a.arg: evaluate(d, values) for a, d in zip(
                definition.args.kwonlyargs, definition.args.kw_defaults) if d is not None}

    def mark(self, reached):
        """Make every function note in the set `reached` that it has run, until `take_out`."""
        tree = copy.deepcopy(self.tree)
        for scope in self.functions:
            note = f"__reached__.add(({self.module.__name__!r}, {scope!r}))"
            find(tree, scope).body.insert(0, ast.parse(note).body[0])
        marked = {c.co_qualname: c for c in codes(compile(ast.fix_missing_locations(tree), self.path, "exec"))}
        vars(self.module)["__reached__"] = reached
        self.saved = {(function, "__code__"): function.__code__ for function in self.functions.values()}
        for scope, function in self.functions.items():
            function.__code__ = marked[scope]

    def take_out(self):
        for (owner, name), value in self.saved.items():
            setattr(owner, name, value)
        self.saved = {}


def importers(name):
    """(module, its name for it, name) of all that loaded modules of the package import from a module."""
    return [(module, held, wanted) for module in [m for n, m in sys.modules.items() if n.startswith("npdvae.")]
            for source, wanted, held in imports(module) if source == name]


@functools.cache
def imports(module):
    """(from where, name there, name here) of what a module imports."""
    path = getattr(module, "__file__", None) or ""
    if not path.endswith(".py"):
        return []
    with open(path) as file:
        tree = ast.parse(file.read())
    return [(node.module, a.name, a.asname or a.name) for node in tree.body if isinstance(node, ast.ImportFrom)
            for a in node.names]


def copy_but(tree, node):
    """A deep copy of the tree that shares the one node, so that it can be found."""
    return copy.deepcopy(tree, {id(node): node})


class Replace(ast.NodeTransformer):
    def __init__(self, node, change):
        self.node, self.change = node, change

    def visit(self, node):
        if node is self.node:
            return ast.copy_location(self.change(node), node)
        return self.generic_visit(node)


def contains(tree, node):
    return any(n is node for n in ast.walk(tree))


def find(tree, qualified):
    """The definition of a qualified name."""
    for name in qualified.split("."):
        tree = next(n for n in tree.body if getattr(n, "name", None) == name)
    return tree


def codes(code):
    """Code objects at any depth."""
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield c
            yield from codes(c)


def evaluate(node, values):
    return eval(compile(ast.Expression(node), "default", "eval"), values)


def live_functions(module):
    """(qualified name, function) of every function and method that a module defines."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if isinstance(value, type) else [value]
        for member in members:
            member = getattr(member, "fget", getattr(member, "__func__", member))
            member = inspect.unwrap(member) if callable(member) else member
            if isinstance(member, types.FunctionType) and member.__module__ == module.__name__:
                yield member.__qualname__, member


def packages(*names):
    """The modules of some subpackages of npdvae, command lines left out."""
    found = []
    for name in names:
        package = importlib.import_module(f"npdvae.{name}")
        for m in pkgutil.walk_packages(package.__path__, f"npdvae.{name}."):
            if not m.ispkg and m.name.rpartition(".")[2] not in COMMANDS:
                found.append(m.name)
    return found
