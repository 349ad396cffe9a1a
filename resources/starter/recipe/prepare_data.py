"""Draws the emoji of concepts.json as sprites: sprites.npz (RGBA uint8 [N, 72, 72, 4]) and items.json (name, style).

Sources, as npm packages under WORK/node_modules: @lobehub/fluent-emoji-3d (MIT), @iconify-json/fluent-emoji-flat (MIT),
@iconify-json/noto (Apache-2.0); code points and names from emojibase-data (MIT)."""

import io
import json

import numpy as np
import resvg_py
from PIL import Image

from common import CONCEPTS, WORK

MODULES = WORK / "node_modules"
SIDE = 72


def svg_set(package):
    """A function from hex code point to a drawn picture of an Iconify set."""
    folder = MODULES / "@iconify-json" / package
    icons, chars = (
        json.loads((folder / "icons.json").read_text()),
        json.loads((folder / "chars.json").read_text()),
    )

    def load(code):
        key = code.lower()
        icon = icons["icons"][chars.get(key) or chars[key.replace("-fe0f", "")]]
        w, h = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {w} {h}" '
            f'width="{SIDE * 3}" height="{SIDE * 3}">{icon["body"]}</svg>'
        )
        return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")

    return load


def load_3d(code):
    folder, key = MODULES / "@lobehub/fluent-emoji-3d/assets", code.lower()
    found = [
        f
        for f in (folder / f"{k}.webp" for k in (key, key + "-fe0f", key.replace("-fe0f", "")))
        if f.exists()
    ]
    return Image.open(found[0]).convert("RGBA")


def fit(image):
    """Crop to the content, pad to a square, resize with premultiplied alpha."""
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    w, h = image.size
    square = Image.new("RGBA", (max(w, h),) * 2)
    square.paste(image, ((max(w, h) - w) // 2, (max(w, h) - h) // 2))
    return np.asarray(square.convert("RGBa").resize((SIDE, SIDE), Image.LANCZOS).convert("RGBA"))


def main():
    by_label = {
        e["label"]: e["hexcode"] for e in json.loads((MODULES / "emojibase-data/en/data.json").read_text())
    }
    styles = {"3d": load_3d, "flat": svg_set("fluent-emoji-flat"), "cartoon": svg_set("noto")}
    sprites, items = [], []
    for name, label in {**CONCEPTS["train"], **CONCEPTS["heldOut"]}.items():
        for style, load in styles.items():
            sprites.append(fit(load(by_label[label])))
            items.append({"name": name, "style": style})
    np.savez_compressed(WORK / "sprites.npz", x=np.stack(sprites))
    (WORK / "items.json").write_text(json.dumps(items))
    print(len(items), "sprites")


if __name__ == "__main__":
    main()
