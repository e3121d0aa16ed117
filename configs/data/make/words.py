"""Rendered words for a reader of text lines: English words of Python's own documentation, drawn in several sizes, shades and degrees of blur.

words.py RECOGNISER.onnx OUT-FOLDER makes OUT-FOLDER/train.npz and test.npz: `x` float32 [words, 3, 48, 192] between -1 and 1, as PP-OCR takes them;
`y` int64 [words, 12]: places of the characters in the recogniser's alphabet (its metadata; the blank is 0), then -1. The same files give the same
arrays.
"""

import pathlib
import re
import sys
from pydoc_data.topics import topics

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH, LONGEST, SEED = 48, 192, 12, 5
COUNTS = {"train": 200, "test": 600}


def alphabet(path):
    """The characters that a recogniser knows, in the order of its classes: the blank comes first, the space last."""
    for entry in onnx.load(path).metadata_props:
        if entry.key == "character":
            return ["", *entry.value.splitlines(), " "]
    sys.exit(f"{path} does not say its characters")


def picture(word, random):
    dark, light = random.integers(0, 90), random.integers(170, 256)
    size = int(random.integers(20, 36))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(word)
    room = Image.new("L", (right - left + 24, bottom - top + 16), int(light))
    place = (int(random.integers(4, 20)) - left, int(random.integers(4, 12)) - top)
    ImageDraw.Draw(room).text(place, word, fill=int(dark), font=font)
    room = room.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.6)))
    width = min(WIDTH, round(room.width * HEIGHT / room.height))
    line = np.asarray(room.resize((width, HEIGHT)), np.float32) / 127.5 - 1
    line += random.normal(0, random.uniform(0, 0.15), line.shape).astype(np.float32)
    # What a line does not fill is grey, as the recogniser was trained.
    whole = np.zeros((HEIGHT, WIDTH), np.float32)
    whole[:, :width] = line.clip(-1, 1)
    return np.broadcast_to(whole, (3, HEIGHT, WIDTH))


def main():
    model, out = sys.argv[1], pathlib.Path(sys.argv[2])
    places = {character: i for i, character in enumerate(alphabet(model))}
    words = sorted({w for text in topics.values() for w in re.findall(r"[A-Za-z]{3,12}", text)})
    random = np.random.default_rng(SEED)
    words = iter([words[i] for i in random.permutation(len(words))])
    for name, count in COUNTS.items():
        chosen = [next(words) for _ in range(count)]
        x = np.stack([picture(word, random) for word in chosen])
        y = np.full((count, LONGEST), -1, np.int64)
        for i, word in enumerate(chosen):
            y[i, : len(word)] = [places[c] for c in word]
        np.savez(out / f"{name}.npz", x=x, y=y)


main()
