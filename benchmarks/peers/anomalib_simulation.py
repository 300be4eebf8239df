"""Times anomalib's PerlinAnomalyGenerator on decoded images.

    PYTHON anomalib_simulation.py THREADS ARRAYS SAMPLES

Prints `ready`, then the seconds of so many samples for every line that it reads. It turns no
normal image, and half of its samples stay normal.
"""

from __future__ import annotations

import sys
import time
import types

import numpy as np
import torch
from anomalib.data.utils.generators import perlin


def main() -> None:
    """Load, then time on demand."""
    threads, arrays, samples = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with np.load(arrays) as pictures:
        normal, textures = (
            torch.from_numpy(pictures[name]).permute(0, 3, 1, 2).contiguous()
            for name in ("normal", "textures")
        )
    # Decoding is not what is compared.
    perlin.io = types.SimpleNamespace(
        ImageReadMode=perlin.io.ImageReadMode, read_image=lambda path, **_: textures[int(path)]
    )
    generator = perlin.PerlinAnomalyGenerator()
    generator.anomaly_source_paths = [str(number) for number in range(len(textures))]
    torch.manual_seed(0)
    chosen = torch.arange(int(samples)) % len(normal)

    def simulate() -> None:
        generator(normal[chosen].float() / 255)

    simulate()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        simulate()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
