"""Times anomalib's Draem; run by the interpreter of an environment that holds anomalib.

Prints `ready` and the versions, then the seconds of one inference for every line that it reads.
"""

from __future__ import annotations

import sys
import time
from importlib import metadata

import torch
from anomalib.models.image.draem.torch_model import DraemModel

SIDE = 256


def main() -> None:
    """Load, then time on demand."""
    torch.set_num_threads(int(sys.argv[1]))
    model = DraemModel().eval()
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(image)
        versions = (f"{name} {metadata.version(name)}" for name in ("anomalib", "torch"))
        print("ready", ", ".join(versions), flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            model(image)
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
