"""Rebuild photos/ from the photographs that ship with scikit-image (see README.md for their licences).

    python data/samples/make_photos.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

TARGET = Path(__file__).with_name("photos")
SIDE = 320
JPEGS = {
    "animals/chelsea": data.chelsea,
    "people/astronaut": data.astronaut,
    "people/camera": data.camera,
    "things/coffee": data.coffee,
    "things/brick": data.brick,
    "things/gravel": data.gravel,
    "things/grass": data.grass,
    "space/rocket": data.rocket,
    "space/hubble": data.hubble_deep_field,
}
PNGS = {"animals/horse": data.horse}


def main() -> None:
    for name, read in (JPEGS | PNGS).items():
        picture = read()
        image = Image.fromarray(picture if picture.dtype != bool else (picture * 255).astype("uint8"))
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in PNGS:
            image.save(path.with_suffix(".png"), optimize=True)
        else:
            image.save(path.with_suffix(".jpg"), quality=85, optimize=True)


if __name__ == "__main__":
    main()
