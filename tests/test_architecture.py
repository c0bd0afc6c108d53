"""The walls of the house: imports point one way, read from the source. Share of the suite: 1 s."""
import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORBIDDEN = {                                   # part -> what it must never import
    "npdvae/ops": ("npdvae.", "numba", "cupy"),
    "npdvae/estimators": ("npdvae.latents", "npdvae.step", "npdvae.model", "npdvae.train", "npdvae.verify",
                          "npdvae.kernels", "npdvae.backends.", "numba", "cupy"),
    "npdvae/latents": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/step.py": ("npdvae.backends", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/mlp.py": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "npdvae/model.py": ("npdvae.backends", "npdvae.step", "npdvae.train", "npdvae.kernels", "numba", "cupy"),
    "kernels": ("npdvae.ops", "npdvae.step", "npdvae.train", "npdvae.model", "npdvae.estimators", "npdvae.backends",
                "npdvae.latents"),
}
AUTODIFF = ("torch", "jax", "tensorflow", "autograd", "scipy")
INSIDE_OPS = ("npdvae.ops",)


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


def test_the_package_imports_no_autodiff():
    for path in [*files("npdvae"), *files("kernels")]:
        for name in imports(path):
            if name.split(".")[0] in AUTODIFF:
                assert path.name == "build_digits.py", f"{path.relative_to(ROOT)} imports {name}"


def test_importing_the_package_loads_neither_numba_nor_matplotlib():
    import subprocess
    import sys
    code = ("import sys, npdvae.train, npdvae.evaluate\n"
            "print([m for m in ('numba', 'matplotlib', 'cupy') if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out.strip() == "[]"
