"""Discrete variational autoencoders from scratch: every gradient by hand, every estimator proved."""
import pathlib

__version__ = "0.1.0"

_package = pathlib.Path(__file__).resolve().parent
if not (_package / "kernels").is_dir() and (_package.parent / "kernels" / "__init__.py").is_file():
    __path__.append(str(_package.parent))       # uninstalled checkout: kernels/ stands beside the package
