"""Packaging: `kernels/` at the top level is installed as `npdvae.kernels`."""
from setuptools import find_packages, setup

kernels = ["npdvae.kernels" + p.removeprefix("kernels") for p in find_packages(include=["kernels", "kernels.*"])]

setup(
    packages=find_packages(include=["npdvae", "npdvae.*"]) + kernels,
    package_dir={"npdvae": "npdvae", "npdvae.kernels": "kernels"},
    package_data={"npdvae": ["py.typed", "data/*.npz", "explore/assets/*"],
                  "npdvae.kernels": ["cuda/*.cu", "cuda/*.cuh"]},
)
