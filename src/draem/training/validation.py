"""Validation without anomalous images: held-out good images, with simulated anomalies over them.

The anomalies have textures that training never sees, but the shapes that it does, so the figures
are better than those of real defects. Nothing is chosen by them; they show how the training goes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draem.evaluation.histograms import PixelHistograms
from draem.evaluation.metrics import image_auroc, pixel_ap, pixel_auroc
from draem.imaging.colormap import overlay
from draem.imaging.contact_sheet import contact_sheet
from draem.inspection.torch_scoring import anomaly_maps, anomaly_scores
from draem.networks.joint import DraemOutput, JointModel
from draem.simulation.factory import without_clean_samples
from draem.simulation.preview import to_pictures
from draem.simulation.simulator import Simulator
from draem.training.losses import LossWeights, draem_losses

_SEED_OFFSET = 2**32
_BATCH = 8


class Validation:
    """A fixed set of simulated anomalies over held-out good images.

    Args:
        simulator: Over the held-out images, with the textures of validation; its profile decides
            the anomalies.
        samples: Simulated images, at most; each is also scored as it was before.
        loss_weights: As in training.
        side: Side of the score's mean filter in pixels.
    """

    def __init__(
        self,
        simulator: Simulator,
        samples: int,
        loss_weights: LossWeights,
        side: int,
    ) -> None:
        fixed = without_clean_samples(simulator, simulator.seed + _SEED_OFFSET)
        sizes = [min(_BATCH, samples - start) for start in range(0, samples, _BATCH)]
        self._batches = [fixed.batch(step, size) for step, size in enumerate(sizes)]
        self._inside = [fixed.inside(step, size) for step, size in enumerate(sizes)]
        self._loss_weights = loss_weights
        self._side = side

    @torch.no_grad()
    def measure(self, network: JointModel) -> dict[str, float]:
        """Losses and metrics of a network, by name.

        Args:
            network: On the device of the images; left in the mode it came in.
        """
        was_training = network.training
        network.eval()
        losses: list[Tensor] = []
        scores: list[float] = []
        labels: list[int] = []
        pixels = PixelHistograms.empty()
        for batch, inside in zip(self._batches, self._inside, strict=True):
            output = network(batch.simulated_images)
            losses.append(torch.stack(draem_losses(output, batch, self._loss_weights)))
            maps = _maps(output, inside)
            masks = batch.anomaly_mask[:, 0].bool().cpu().numpy()
            for anomaly_map, mask in zip(maps[:, 0].cpu().numpy(), masks, strict=True):
                pixels.update(anomaly_map, mask)
            clean = _maps(network(batch.normal_images), inside)
            for scored in (maps, clean):
                scores += anomaly_scores(scored, self._side).tolist()
            labels += [int(mask.any()) for mask in masks] + [0] * len(masks)
        network.train(was_training)
        total, l2, ssim, focal = torch.stack(losses).mean(0).tolist()
        return {
            "val_loss": total,
            "val_l2": l2,
            "val_ssim": ssim,
            "val_focal": focal,
            "val_image_auroc": image_auroc(np.array(scores), np.array(labels)),
            "val_pixel_auroc": pixel_auroc(pixels),
            "val_pixel_ap": pixel_ap(pixels),
        }

    @torch.no_grad()
    def picture(self, network: JointModel, title: str) -> NDArray[np.uint8]:
        """A sheet of the first samples with what the network makes of them.

        Returns:
            (height, width, 3) uint8 RGB.
        """
        was_training = network.training
        network.eval()
        batch, inside = self._batches[0], self._inside[0]
        output = network(batch.simulated_images)
        clean = network(batch.normal_images)
        network.train(was_training)
        maps = _maps(output, inside)[:, 0].float().cpu().numpy()
        clean_maps = _maps(clean, inside)[:, 0].float().cpu().numpy()
        images, simulated = to_pictures(batch.normal_images), to_pictures(batch.simulated_images)
        restored, masks = to_pictures(output.reconstruction), to_pictures(batch.anomaly_mask)
        rows = [
            [
                simulated[row],
                restored[row],
                overlay(simulated[row], maps[row]),
                masks[row][:, :, 0],
                images[row],
                overlay(images[row], clean_maps[row]),
            ]
            for row in range(min(6, len(images)))
        ]
        columns = ("simulated", "reconstruction", "marked", "true mask", "good", "marked")
        return contact_sheet(rows, columns, title=title)


def _maps(output: DraemOutput, inside: Tensor | None) -> Tensor:
    """The anomaly maps, 0 outside the region of interest, (batch, 1, height, width)."""
    maps = anomaly_maps(output.mask_logits)
    return maps if inside is None else maps * inside
