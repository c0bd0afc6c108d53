"""Discrete variational autoencoders from scratch: every gradient by hand, every estimator proved."""
from npdvae import process

if process.is_command():                        # before anything else is loaded: a signal may come at any instant
    process.start()

import importlib  # noqa: E402
import pathlib  # noqa: E402

__version__ = "0.1.0"                           # said here only: pyproject.toml reads this line

PARTS = ("backends", "data", "estimators", "latents", "likelihoods", "ops", "optimizers", "priors", "rng", "run",
         "verify")                              # imported on first use

_package = pathlib.Path(__file__).resolve().parent
if not (_package / "kernels").is_dir() and (_package.parent / "kernels" / "__init__.py").is_file():
    __path__.append(str(_package.parent))       # uninstalled checkout: kernels/ stands beside the package


def __getattr__(name: str):
    if name in PARTS:
        return importlib.import_module(f"npdvae.{name}")
    raise AttributeError(f"module 'npdvae' has no attribute {name!r}; its parts are {', '.join(PARTS)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *PARTS})
