"""Times the published DRAEM's data set class on decoded images.

    PYTHON upstream_simulation.py THREADS CHECKOUT ARRAYS SAMPLES

Its imgaug needs a NumPy that still has its old names; `benchmarks/simulation.py` says how to make
such an environment. Prints `ready`, then the seconds of so many samples for every line that it
reads.
"""

from __future__ import annotations

import sys
import time
import types

import cv2
import numpy as np
import torch


def main() -> None:
    """Load, then time on demand."""
    threads, checkout, arrays, samples = sys.argv[1:]
    torch.set_num_threads(int(threads))
    cv2.setNumThreads(int(threads))
    sys.path.insert(0, checkout)
    import data_loader

    with np.load(arrays) as pictures:
        decoded = {
            f"{name}/{number}": np.ascontiguousarray(picture[..., ::-1])
            for name in ("normal", "textures")
            for number, picture in enumerate(pictures[name])
        }
    stand_in = types.ModuleType("cv2")
    stand_in.__dict__.update(cv2.__dict__)
    # Decoding is not what is compared; the class changes nothing in place.
    stand_in.__dict__["imread"] = lambda path, *_: decoded[path]
    data_loader.cv2 = stand_in

    height, width = decoded["normal/0"].shape[:2]
    data = data_loader.MVTecDRAEMTrainDataset("none", "none", resize_shape=[height, width])
    data.image_paths = [path for path in decoded if path.startswith("normal")]
    data.anomaly_source_paths = [path for path in decoded if path.startswith("textures")]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    data[0]
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(samples)):
            data[0]
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
