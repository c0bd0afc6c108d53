"""The walls of the house: imports point one way, read from the source. Share of the suite: 1 s."""
import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

import npdvae

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORBIDDEN = {                                   # part -> what it must never import
    "npdvae/ops": ("npdvae.", "numba", "cupy"),
    "npdvae/estimators": ("npdvae.latents", "npdvae.step", "npdvae.model", "npdvae.train", "npdvae.verify",
                          "npdvae.kernels", "npdvae.backends.", "numba", "cupy"),
    "npdvae/latents": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/priors": ("npdvae.latents", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/likelihoods": ("npdvae.latents", "npdvae.priors", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba",
                           "cupy"),
    "npdvae/optimizers": ("npdvae.latents", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/describe.py": ("npdvae.fused", "npdvae.gpu", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/engine.py": ("npdvae.fused", "npdvae.gpu", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/fused": ("npdvae.gpu", "npdvae.train", "cupy"),
    "npdvae/gpu": ("npdvae.fused", "npdvae.train", "npdvae.kernels.cpu", "numba"),
    "npdvae/step.py": ("npdvae.backends", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/mlp.py": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/model.py": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/backends": ("npdvae.gpu", "npdvae.fused", "npdvae.step", "npdvae.train"),
    "kernels": ("npdvae.ops", "npdvae.step", "npdvae.train", "npdvae.model", "npdvae.estimators", "npdvae.backends",
                "npdvae.latents"),
}
AUTODIFF = ("torch", "jax", "tensorflow", "autograd", "scipy")
INSIDE_OPS = ("npdvae.ops", "npdvae.types")


def files(part):
    path = ROOT / part
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    """Name: path of every module of the package, `kernels` under its installed name."""
    found = {}
    for path in [*files("npdvae"), *files("kernels")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "npdvae" else ("npdvae", *parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(path, known):
    """The modules of the package that a file imports, at its top or in functions: of `from a import b`, a.b or a."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & set(known)


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    assert files(part)
    for path in files(part):
        for name in imports(path):
            if part == "npdvae/ops" and name.startswith(INSIDE_OPS):
                continue
            for wall in FORBIDDEN[part]:        # "a." forbids what is inside a, "a" forbids a too
                crossed = name.startswith(wall.rstrip(".") + ".") or name == wall
                assert not crossed, f"{path.relative_to(ROOT)} imports {name}"


def test_no_module_imports_itself_by_any_way_round():
    known = modules()
    arrows = {name: imported(path, known) for name, path in known.items()}
    assert {"npdvae.data.loading", "npdvae.kernels.cpu.sync", "npdvae.verify"} <= set(known)
    assert "npdvae.data.dataset" in arrows["npdvae.data.digits"] and sum(map(len, arrows.values())) > 300
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import circle: " + " <- ".join(error.args[1]))


def test_the_package_imports_no_autodiff():
    for path in [*files("npdvae"), *files("kernels")]:
        for name in imports(path):
            if name.split(".")[0] in AUTODIFF:
                assert path.name == "build_digits.py", f"{path.relative_to(ROOT)} imports {name}"


def python(code):
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("imported, absent", [
    ("npdvae", ("numpy", "npdvae.rng", "numba", "matplotlib")),
    ("npdvae.train, npdvae.evaluate", ("numba", "matplotlib", "cupy"))])
def test_importing_loads_no_more_than_needed(imported, absent):
    assert python(f"import sys, {imported}\nprint([m for m in {absent} if m in sys.modules])") == "[]"


def test_the_parts_of_the_package_are_there_without_being_imported():
    code = ("import npdvae\nassert all(part in dir(npdvae) for part in npdvae.PARTS)\n"
            "print(*(getattr(npdvae, part).__name__ for part in npdvae.PARTS))")
    assert python(code).split() == [f"npdvae.{part}" for part in npdvae.PARTS]
    assert python("import npdvae; print(npdvae.verify.check_unbiased.__name__)") == "check_unbiased"
    assert {"backends", "estimators", "latents", "rng", "verify"} <= set(npdvae.PARTS)


def test_what_the_package_lacks_is_named():
    with pytest.raises(AttributeError, match="no attribute 'verfy'; its parts are backends, data"):
        npdvae.verfy  # noqa: B018
