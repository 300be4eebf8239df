from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from draem.config import PAPER
from draem.inspection.scoring import filter_side
from draem.networks.joint import DraemOutput
from draem.simulation.factory import make_simulator
from draem.training.losses import LossWeights
from draem.training.validation import Validation
from tests.support import source

SIZE = (64, 64)


class Bright(nn.Module):
    """Marks what is bright."""

    def forward(self, images: Tensor) -> DraemOutput:
        bright = 20 * (images.mean(1, keepdim=True) - 0.5)
        return DraemOutput(images, torch.cat((-bright, bright), dim=1))


def validation(region: Tensor | None) -> Validation:
    """White anomalies over pictures that are black on the left and white on the right."""
    normal = torch.zeros(3, 3, *SIZE, dtype=torch.uint8)
    normal[..., 32:] = 255
    white = torch.full((1, 3, *SIZE), 255, dtype=torch.uint8)
    profile = PAPER.replace(rotation_share=0, opacity=(1.0, 1.0), operation_count=0)
    return Validation(
        make_simulator(source(normal), source(white), profile, 0, region),
        16,
        LossWeights(),
        filter_side(*SIZE),
    )


def test_what_is_marked_outside_the_region_of_interest_does_not_count() -> None:
    left = torch.zeros(SIZE, dtype=torch.bool)
    left[:, :32] = True
    network = Bright()
    whole = validation(None).measure(network)  # type: ignore[arg-type]
    assert whole["val_image_auroc"] == pytest.approx(0.5, abs=0.05)
    limited = validation(left)
    figures = limited.measure(network)  # type: ignore[arg-type]
    assert figures["val_pixel_ap"] == pytest.approx(1)
    assert figures["val_image_auroc"] > 0.9
    # The picture shows the maps as they count.
    assert limited.picture(network, "title").shape[2] == 3  # type: ignore[arg-type]
    assert network.training
