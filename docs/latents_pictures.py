"""python docs/latents_pictures.py [NAME ...]: the pictures of docs/latents.md, from short trainings on the digits.

Each is docs/latents/NAME.png; without names all are drawn, in some minutes.
"""
import io
import pathlib
import sys

from pictures import continuous, quantisers, smoothing
from PIL import Image

from npdvae import plots

FOLDER = pathlib.Path(__file__).parent / "latents"
COLOURS = 128                                   # of the palette: a third of the bytes
PICTURES = {
    "gaussian": continuous.gaussian, "families": continuous.families, "transforms": continuous.transforms,
    "kumaraswamy": continuous.kumaraswamy, "gamma": continuous.gamma, "dirichlet": continuous.dirichlet,
    "smoothing": smoothing.smoothing, "concrete": smoothing.concrete, "vq": quantisers.vq,
    "revival": quantisers.revival, "soft_vq": quantisers.soft_vq, "fsq": quantisers.fsq, "binary": quantisers.binary,
}


def main(names):
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        if name not in PICTURES:
            sys.exit(f"no picture {name}: known are {', '.join(PICTURES)}")
        path, drawn = FOLDER / f"{name}.png", plots.png(PICTURES[name](), dpi=100)
        Image.open(io.BytesIO(drawn)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
