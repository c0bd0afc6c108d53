"""One page of the API for each package, written from the file tree at the start of a build: no module is forgotten."""
import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "api"
TOP = {                                         # modules of npdvae/ itself, by what they are for
    "train": ("Configure and train", ("config", "settings", "presets", "build", "describe", "trainer", "train",
                                      "schedules", "metrics", "checkpoint", "state", "saved", "files", "lock", "memory",
                                      "process")),
    "runs": ("Use a run", ("run", "evaluation", "evaluate", "sample", "report", "page", "plots", "compare",
                           "comparison", "comparison_plots", "cli")),
    "model": ("Model and step", ("model", "mlp", "step", "engine", "rng", "types", "registry")),
}
PACKAGES = {
    "ops": "Operations", "estimators": "Estimators", "latents": "Latents", "priors": "Priors",
    "likelihoods": "Likelihoods", "optimizers": "Optimizers", "explore": "The explorer", "verify": "Proofs",
    "data": "Data", "backends": "Backends", "fused": "Engines for the CPU", "gpu": "Engine for CUDA",
}


def modules(folder):
    """Dotted names of the modules below a folder, packages first; `__main__` is a command and left out."""
    paths = sorted(folder.rglob("*.py"), key=lambda p: (len(p.parts), p.name != "__init__.py", p))
    return [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths
            if p.name != "__main__.py"]


def summary(path):
    """First sentence of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def page(title, names):
    """A page in reStructuredText: every module with its members."""
    parts = [title, "=" * len(title), ""]
    for name in names:
        parts += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
    return "\n".join(parts)


def write(path, text):
    """Write what changed, so that a second build reads only that."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def generate(app):
    """The pages and their list."""
    FOLDER.mkdir(exist_ok=True)
    pages = {key: (title, [f"npdvae.{name}" for name in names]) for key, (title, names) in TOP.items()}
    pages |= {key: (title, modules(ROOT / "npdvae" / key)) for key, title in PACKAGES.items()}
    listed = {name for _, names in pages.values() for name in names}
    if others := [name for name in modules(ROOT / "npdvae") if name not in listed | {"npdvae"}]:
        pages["others"] = ("Further modules", others)
    for key, (title, names) in pages.items():
        write(FOLDER / f"{key}.rst", page(title, names))
    lines = ["API reference", "=============", "", "Every module, from its docstrings. Axes are always [S, B, D, K] "
             "(samples, batch, latents, categories); costs, KL terms and bounds are in nats.", "",
             ".. automodule:: npdvae", "", ".. toctree::", "   :maxdepth: 2", "", *(f"   {key}" for key in pages), ""]
    write(FOLDER / "index.rst", "\n".join(lines))
    for old in FOLDER.glob("*.rst"):
        if old.stem not in {*pages, "index"}:
            old.unlink()


def setup(app):
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True}
