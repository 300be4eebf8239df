"""What do decoding, resizing and writing results cost beside inference?

    python benchmarks/folder.py [--model full|compact] [--runtime mnn] [--side 1024] [--images 60]

Writes photographs as JPEG files, then lets take turns: inference alone on images that are in
memory at the network's size, `draem.inspect_files` without pictures, and with maps and overlays.
Prints the throughput of each and its share of inference alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from PIL import Image

import draem
from draem.imaging.decode import decode_image
from draem.simulation.textures import builtin_textures
from inference import MODELS, write_network
from machine import machine, write_result
from turns import in_turn, timed


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inspector = _inspector(arguments.model, arguments.runtime, folder)
        paths = write_photographs(folder / "images", arguments.side, arguments.images)
        prepared = [inspector.prepare(decode_image(path)) for path in paths]

        def alone() -> None:
            for image in prepared:
                inspector.run(image[None])

        def lines() -> None:
            draem.inspect_files(inspector, paths, folder / "out", maps=False, overlays=False)

        def pictures() -> None:
            draem.inspect_files(inspector, paths, folder / "out")

        ways = {"inference alone": alone, "results.jsonl": lines, "maps and overlays": pictures}
        turns = {name: timed(way) for name, way in ways.items()}
        taken = in_turn(turns, arguments.rounds)
    seconds = {name: statistics.median(each) / len(paths) for name, each in taken.items()}
    rows = [
        {
            "way": name,
            "ms_an_image": 1000 * each,
            "images_per_s": 1 / each,
            "share_of_inference_alone": seconds["inference alone"] / each,
        }
        for name, each in seconds.items()
    ]
    print(f"{arguments.model} in {arguments.runtime}, JPEG of {arguments.side}x{arguments.side}")
    for row in rows:
        print(
            f"{row['way']:<18} {row['ms_an_image']:>7.1f} ms  {row['images_per_s']:>6.1f} images/s"
            f"  {100 * row['share_of_inference_alone']:>4.0f} %"
        )
    facts = {name: getattr(arguments, name) for name in ("model", "runtime", "side", "images")}
    document = {"benchmark": "folder", "machine": machine(), **facts, "rows": rows}
    write_result(f"folder-{arguments.model}-{arguments.side}", document)


def _inspector(model: str, runtime: str, folder: Path) -> draem.Inspector:
    path = write_network(model, folder)
    return draem.load(draem.export(path, runtime).path if runtime != "torch" else path)


def write_photographs(folder: Path, side: int, count: int) -> list[Path]:
    """Write JPEG files of photographs."""
    folder.mkdir()
    textures = builtin_textures((side, side))
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(textures[number % len(textures)]).save(path, quality=92)
    return paths


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="compact")
    parser.add_argument("--runtime", choices=("onnx", "openvino", "mnn", "torch"), default="mnn")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
