"""How much damage in the middle of image files is found?

    python benchmarks/damage.py [--files 1000]

Files of each kind are made from blurred noise of random size, quality and sharpness, whole. Then a
tenth of the file, in the middle of the pixels' data, is taken out, or replaced by zeros. Counted
is how many of the files `decode_image` refuses; whole files must all be read. Prints a table and
writes JSON.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from draem.errors import ImageError
from draem.imaging.decode import decode_image
from machine import machine, write_result

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG, one scan": ("JPEG", {}),
    "JPEG, one scan, restart markers": ("JPEG", {"restart_marker_blocks": 4}),
    "JPEG, progressive": ("JPEG", {"progressive": True}),
    "WebP": ("WEBP", {}),
    "WebP, lossless": ("WEBP", {"lossless": True}),
    "PNG": ("PNG", {}),
}
HEADER = 40


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000, help="files of each kind")
    files = parser.parse_args().files
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(name, files, rng, Path(folder) / "image") for name in KINDS]
    print(f"{'kind':34}{'whole, refused':>16}{'missing, found':>16}{'zeros, found':>16}")
    for row in rows:
        counts = f"{row['whole']:>16}{row['missing']:>16}{row['zeros']:>16}"
        print(f"{row['kind']:34}{counts}  of {files}")
    document = {"benchmark": "damage", "machine": machine(), "files": files, "rows": rows}
    write_result("damage", document)


def _row(name: str, files: int, rng: np.random.Generator, path: Path) -> dict[str, object]:
    kind, options = KINDS[name]
    counts = {"whole": 0, "missing": 0, "zeros": 0}
    for _ in range(files):
        data = _encoded(rng, kind, options)
        start = data.index(b"\xff\xda") + 20 if kind == "JPEG" else HEADER
        length = (len(data) - start) // 10
        place = start + int(rng.integers(len(data) - start - length - 10))
        tail = data[place + length :]
        damaged = {"missing": data[:place] + tail, "zeros": data[:place] + bytes(length) + tail}
        for what, content in {"whole": data, **damaged}.items():
            path.write_bytes(content)
            counts[what] += _is_refused(path)
    return {"kind": name, **counts}


def _encoded(rng: np.random.Generator, kind: str, options: dict[str, object]) -> bytes:
    height, width = rng.integers(64, 256, 2)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 4))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=int(rng.integers(50, 98)), **options)
    return buffer.getvalue()


def _is_refused(path: Path) -> bool:
    try:
        decode_image(path)
    except ImageError:
        return True
    return False


if __name__ == "__main__":
    main()
