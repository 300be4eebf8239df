"""What simulated anomalies are filled with: foreign textures, the product itself, other tones.

Source:
    Foreign textures: Zavrtanik et al., ICCV 2021, section 3.3. The product's own pixels elsewhere:
    Li et al., CutPaste, CVPR 2021; Schlüter et al., Natural Synthetic Anomalies, ECCV 2022. Tones
    and smears are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from draem.simulation import lut, sampling
from draem.simulation.augment import (
    UPSTREAM_OPERATIONS,
    AugmentationPlan,
    Operation,
    augment,
    augment_but_last_lut,
    sample_plan,
)
from draem.simulation.batch_indexing import pick, put, rows_where, take
from draem.simulation.device_images import DeviceImages
from draem.simulation.enhance import color
from draem.simulation.filters import box_blur
from draem.simulation.geometry import whole_levels
from draem.simulation.windows import Windows, crop_windows

FILLS = ("texture", "other", "displaced", "tone", "smear")
"""A foreign texture; another good part; the same part some pixels away; the place itself, lighter,
darker or tinted; the place itself, blurred."""


@dataclass(frozen=True, slots=True)
class Fills:
    """The parameters of one fill per row.

    Attributes:
        kind: (batch,) index into `FILLS`.
        texture: The window into a foreign texture.
        plan: How it is augmented.
        elsewhere: The window that the product's own pixels are taken from.
        tone: (batch, 3) what is added to the channels.
        relief: (batch,) in [0, 1], how much of the place's texture stays under a tone.
    """

    kind: Tensor
    texture: Windows
    plan: AugmentationPlan
    elsewhere: Windows
    tone: Tensor
    relief: Tensor


def sample_fills(
    weights: tuple[float, ...],
    seen: Windows,
    pictures: tuple[int, int, int],
    textures: tuple[int, int, int],
    size: tuple[int, int],
    generator: torch.Generator,
    operations: Sequence[Operation] = UPSTREAM_OPERATIONS,
    operation_count: int = 3,
) -> Fills:
    """Sample one fill per row.

    Args:
        weights: How often each of `FILLS` comes, in any unit.
        seen: The windows of the samples themselves.
        pictures: Number, height and width of the normal images.
        textures: Number, height and width of the textures.
        size: Height and width of the windows in pixels.
        generator: On the CPU.
        operations: What foreign textures are augmented with.
        operation_count: How many of them per texture.
    """
    batch = len(seen.pictures)
    uniform = partial(sampling.uniform, batch, generator)
    log_uniform = partial(sampling.log_uniform, batch, generator)
    kind = sampling.choose(weights, batch, generator)
    texture = Windows(
        pictures=torch.randint(textures[0], (batch,), generator=generator),
        rows=uniform(0, 1) * (textures[1] - 1),
        columns=uniform(0, 1) * (textures[2] - 1),
        degrees=torch.zeros(batch),
        scale=log_uniform(0.5, 2),
        mirrored=uniform(0, 1) < 0.5,
    )
    other = kind == FILLS.index("other")
    step, way = log_uniform(3, 30) * (min(size) / 128), uniform(0, 2 * math.pi)
    step = step * seen.scale
    chosen = torch.randint(pictures[0], (batch,), generator=generator)
    between = [(side - 1) / 2 % 1 for side in size]  # pixels' centres must fall on whole numbers
    anywhere = [
        (uniform(0, 1) * (side - 1)).floor() + offset
        for side, offset in zip(pictures[1:], between, strict=True)
    ]
    elsewhere = Windows(
        pictures=torch.where(other, chosen, seen.pictures),
        rows=torch.where(other, anywhere[0], seen.rows + (step * way.sin()).round()),
        columns=torch.where(other, anywhere[1], seen.columns + (step * way.cos()).round()),
        degrees=torch.where(uniform(0, 1) < 0.5, uniform(-180, 180), seen.degrees),
        scale=seen.scale,
        mirrored=uniform(0, 1) < 0.5,
    )
    darker = uniform(0, 1) < 0.55
    brightness = log_uniform(0.06, 0.6) * torch.where(darker, -1.0, 1.0)
    tint = 0.15 * torch.randn(batch, 3, generator=generator)
    return Fills(
        kind=kind,
        texture=texture,
        plan=sample_plan(operations, batch, operation_count, generator),
        elsewhere=elsewhere,
        tone=brightness[:, None] + tint,
        relief=uniform(0, 1),
    )


def is_filled_with(fills: Fills, *names: str) -> Tensor:
    """Which rows are filled with any of these of `FILLS`, (batch,) bool."""
    wanted = torch.tensor([FILLS.index(name) for name in names])
    return torch.isin(fills.kind, wanted)


def fill(
    fills: Fills,
    normal: Tensor,
    images: DeviceImages,
    textures: DeviceImages,
    grey: Tensor,
    operations: Sequence[Operation] = UPSTREAM_OPERATIONS,
) -> Tensor:
    """What the anomalies show, as if they covered everything.

    Args:
        fills: What to fill with.
        normal: (batch, 3, height, width) the samples, in [0, 1].
        images: The normal images.
        textures: The anomaly sources.
        grey: (batch,) bool on the CPU: where textures and tones must be without colour.
        operations: Those that the fills were sampled with.

    Returns:
        (batch, 3, height, width) in [0, 1].
    """
    size = normal.shape[2], normal.shape[3]
    filled = torch.empty_like(normal)
    if (rows := rows_where(is_filled_with(fills, "texture"))) is not None:
        source = whole_levels(crop_windows(textures, take(fills.texture, rows), size).mul_(255))
        put(filled, rows, _augmented(source, operations, take(fills.plan, rows), grey[rows]))
    if (rows := rows_where(is_filled_with(fills, "other", "displaced"))) is not None:
        put(filled, rows, crop_windows(images, take(fills.elsewhere, rows), size))
    if (rows := rows_where(is_filled_with(fills, "tone"))) is not None:
        tone, relief = fills.tone[rows], fills.relief[rows]
        tone = torch.where(grey[rows, None], tone.mean(1, keepdim=True), tone)
        put(filled, rows, _toned(pick(normal, rows), tone, relief))
    if (rows := rows_where(is_filled_with(fills, "smear"))) is not None:
        put(filled, rows, box_blur(pick(normal, rows), 7))
    return filled


def _toned(images: Tensor, tone: Tensor, relief: Tensor) -> Tensor:
    """Lighter, darker or tinted images, with as much of their texture as the relief says."""
    tone, relief = tone.to(images.device), relief.to(images.device)
    base = torch.lerp(box_blur(images, 9), images, relief[:, None, None, None])
    return base.add_(tone[:, :, None, None]).clamp_(0, 1)


def _augmented(
    images: Tensor, operations: Sequence[Operation], plan: AugmentationPlan, grey: Tensor
) -> Tensor:
    """Augmented textures in [0, 1], without colour where asked."""
    if (rows := rows_where(grey)) is None:
        images, luts = augment_but_last_lut(images, operations, plan)
        return lut.gather(images, luts / 255)
    images = augment(images, operations, plan)
    chosen = pick(images, rows)
    put(images, rows, color(chosen, torch.zeros(len(chosen), device=images.device)))
    return images.float().div_(255)
