"""Times the published DRAEM; takes a checkout of its repository.

Prints `ready` and the versions, a hash of the networks' file among them, then the seconds of one
inference, with the published smoothing and maximum, for every line that it reads.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import torch

SIDE = 256


def main() -> None:
    """Load, then time on demand."""
    torch.set_num_threads(int(sys.argv[1]))
    sys.path.insert(0, sys.argv[2])
    from model_unet import DiscriminativeSubNetwork, ReconstructiveSubNetwork

    reconstruct = ReconstructiveSubNetwork(in_channels=3, out_channels=3).eval()
    segment = DiscriminativeSubNetwork(in_channels=6, out_channels=2).eval()
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def inspect() -> float:
        restored = reconstruct(image)
        logits = segment(torch.cat((restored, image), dim=1))
        maps = torch.softmax(logits, dim=1)[:, 1:]
        return float(torch.nn.functional.avg_pool2d(maps, 21, stride=1, padding=10).max())

    with torch.inference_mode():
        inspect()
        print(f"ready model_unet.py {_digest()}, torch {torch.__version__}", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            inspect()
            print(time.perf_counter() - started, flush=True)


def _digest() -> str:
    """The first digits of the SHA-256 of what was measured, which has no version of its own."""
    return hashlib.sha256((Path(sys.argv[2]) / "model_unet.py").read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    main()
