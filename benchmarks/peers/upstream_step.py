"""Training steps in the manner of the published loop; takes a checkout of its repository.

The checkout's losses, and for the preset `full` its networks; `compact` puts our networks into the
same loop: float32, NCHW, two networks called one after the other, Adam as it comes. The loop's
loader is left out: it is given ready-made batches from the host's memory, as if simulation cost
nothing.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from torch import nn

from draem.networks.model import build_draem
from draem.simulation.simulator import SimulatedBatch
from draem.training.recipe import make_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from peers.step_worker import Json, options, serve
from training_side import make_batches


def main() -> None:
    """Build, then serve."""
    asked = options()
    device = torch.device(asked["device"])
    sys.path.insert(0, asked["checkout"])
    if device.type == "cpu":
        # The published SSIM asks for a GPU when it is made.
        torch.Tensor.cuda = lambda tensor, *_args, **_options: tensor  # type: ignore[method-assign]
    from loss import SSIM, FocalLoss

    reconstruct, segment = (network.to(device) for network in _networks(asked))
    optimizer = torch.optim.Adam(
        [
            {"params": reconstruct.parameters(), "lr": 1e-4},
            {"params": segment.parameters(), "lr": 1e-4},
        ]
    )
    of_squares, of_structure, of_mask = nn.MSELoss(), SSIM(), FocalLoss()
    batches = itertools.cycle(make_batches(asked, "cpu"))

    def step() -> None:
        batch: SimulatedBatch = next(batches)
        normal, simulated, mask = (part.to(device) for part in batch[:3])
        restored = reconstruct(simulated)
        logits = segment(torch.cat((restored, simulated), dim=1))
        probabilities = torch.softmax(logits, dim=1)
        loss = of_squares(restored, normal) + of_structure(restored, normal)
        loss = loss + of_mask(probabilities, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    serve(asked, step, {})


def _networks(asked: Json) -> tuple[nn.Module, nn.Module]:
    if asked["preset"] == "full":
        from model_unet import DiscriminativeSubNetwork, ReconstructiveSubNetwork

        return (
            ReconstructiveSubNetwork(in_channels=3, out_channels=3),
            DiscriminativeSubNetwork(in_channels=6, out_channels=2),
        )
    ours = build_draem(make_recipe("compact").resolve().network)
    return ours.reconstructive, _OfJoined(ours.discriminative)


class _OfJoined(nn.Module):
    """Our discriminative sub-network, given both pictures in one tensor as published."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(joined[:, :3], joined[:, 3:])
        return logits


if __name__ == "__main__":
    main()
