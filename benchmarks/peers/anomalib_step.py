"""Training steps of anomalib's Draem as shipped; run by an interpreter that holds anomalib.

What its `training_step` does, without Lightning: it makes anomalies picture by picture, reading
their sources from disk, then trains in float32 with Adam.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DraemModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from peers.step_worker import options, random_pictures, serve


def main() -> None:
    """Build, then serve."""
    asked = options()
    device = torch.device(asked["device"])
    augment = PerlinAnomalyGenerator(
        anomaly_source_path=asked["textures"], blend_factor=(0.1, 1.0)
    ).to(device)
    model, criterion = DraemModel().to(device).train(), DraemLoss().to(device)
    optimizer = torch.optim.Adam(params=model.parameters(), lr=0.0001)
    images = random_pictures(asked["batch"], asked["window"]).to(device).float() / 255

    def step() -> float:
        simulated, mask = augment(images)
        restored, prediction = model(simulated)
        loss = criterion(images, restored, mask, prediction)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Its log reads the loss back after every step.
        return loss.item()

    serve(asked, step, {})


if __name__ == "__main__":
    main()
