"""python docs/explorer_pictures.py RUN: the screenshots of docs/explorer.md, from a run on MNIST, in Chromium.

Needs playwright (pip install ".[browser]") and Chromium. Pictures are reduced to 256 colours.
"""
import io
import pathlib
import sys
import tempfile

from PIL import Image

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from npdvae.explore.__main__ import main as explore  # noqa: E402
from tests.browser import Page, launched  # noqa: E402

DESKTOP = {"viewport": {"width": 1200, "height": 960}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DIGIT = [[(x + 0.15 * (14 - y), y + 1) for x, y in (         # leaning, and off the centre
    (9, 8), (12, 6), (16, 7), (17, 10), (14, 13), (11, 14), (15, 14), (18, 17), (17, 20), (13, 22), (9, 20))]]
SHOTS = {"desktop_light": ("light", DESKTOP, DIGIT), "desktop_dark": ("dark", DESKTOP, None),
         "phone_light": ("light", PHONE, None), "phone_dark": ("dark", PHONE, DIGIT)}


def draw(shown, strokes):
    """Strokes on the field by mouse, in pixels of an image of 28 x 28."""
    shown.page.locator("#clear").click()
    box, mouse = shown.page.locator("#input").bounding_box(), shown.page.mouse
    for stroke in strokes:
        places = [(box["x"] + (x + 0.5) * box["width"] / 28, box["y"] + (y + 0.5) * box["height"] / 28)
                  for x, y in stroke]
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=4)
        mouse.up()
    mouse.move(1, 1)


def main():
    """Write docs/explorer/*.png."""
    (HERE / "explorer").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        path = pathlib.Path(folder) / "explore.html"
        if explore([sys.argv[1], "--out", str(path)]):
            return 2
        for name, (scheme, context, strokes) in SHOTS.items():
            with Page(browser, path, color_scheme=scheme, **context) as shown:
                if strokes:
                    draw(shown, strokes)
                else:
                    shown.page.locator("#images button").nth(17).click()
                shown.page.wait_for_timeout(500)
                shot = Image.open(io.BytesIO(shown.page.screenshot(full_page=context is DESKTOP)))
                shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                    HERE / "explorer" / f"{name}.png", optimize=True)
                assert shown.wrong == [], shown.wrong
    return 0


if __name__ == "__main__":
    sys.exit(main())
