"""DRAEM's two roles on the features of a pretrained encoder.

Where the published network restores the image, this one restores features: each has a normal
counterpart in a memory of normal features. Where the published discriminative sub-network compares
two images, this one compares distances: with those that are usual anywhere, and with those that are
usual at the same place.

Source:
    The roles: Zavrtanik et al., DRAEM, ICCV 2021. Distances to normal features that are pooled over
    neighbours: Roth et al., PatchCore, CVPR 2022. What is usual at a place: Defard et al., PaDiM,
    2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from draem.config import ResolvedNetworkConfig
from draem.networks.encoder import CHANNELS, STRIDE, Encoder, load_encoder
from draem.networks.joint import DraemOutput, JointModel, check_image_size
from draem.networks.subspaces import Memory, PlaceMemory, SubspaceMemory


class View(NamedTuple):
    """How one memory looks at the features.

    Attributes:
        levels: First and last feature map, of those that the encoder gives.
        unit_length: Bring each level's features to unit length, so that brightness and contrast
            have less weight, instead of dividing by the usual length.
        pooling: Side in cells of the neighbourhood that features are averaged over; odd.
        shrunk: Every cell of the memory stands for so many cells down and across.
        by_place: Compare with what is usual at the place, instead of anywhere.
        share: How far the view is trusted, before simulated anomalies are seen.
    """

    levels: tuple[int, int]
    unit_length: bool
    pooling: int
    shrunk: int
    by_place: bool
    share: float

    @property
    def features(self) -> int:
        """Size of a feature vector."""
        first, last = self.levels
        return sum(CHANNELS[first : last + 1])


VIEWS = (
    View((1, 3), unit_length=False, pooling=1, shrunk=1, by_place=False, share=1),
    View((1, 3), unit_length=True, pooling=3, shrunk=2, by_place=False, share=1),
    View((0, 1), unit_length=False, pooling=1, shrunk=1, by_place=False, share=0.5),
    View((1, 3), unit_length=True, pooling=3, shrunk=1, by_place=True, share=1),
)
"""What is small, what is larger whatever the light, the grain of the surface, and what is missing
or misplaced."""
COLOURS = 3 * STRIDE * STRIDE
_SHORT = 0.1
"""Features much shorter than usual, as those of plain background, are not brought to unit length.
A share of the usual length."""
_LOW_MEAN = 8
"""The power mean with this negative exponent is near the lowest distances of an image."""
_LEAST_DISTANCE = 1e-3
_PLAUSIBLE_SHIFT = 0.3
"""Natural logarithm of how much the lowest distances may grow before it is put down to the light
or the camera: then all distances of the image are divided by the rest of the growth."""


class PretrainedDraem(JointModel):
    """Compares features with their normal counterparts.

    Nothing of it is trained by gradient descent through the encoder; `training/pretrained.py`
    fills in the buffers.

    Args:
        config: Image size, number and rank of the subspaces.
    """

    lengths: Tensor
    usual_level: Tensor
    means: Tensor
    deviations: Tensor
    weights: Tensor
    slope: Tensor
    bias: Tensor
    colours: Tensor
    colour_bias: Tensor

    def __init__(self, config: ResolvedNetworkConfig) -> None:
        super().__init__()
        height, width = (side // STRIDE for side in config.image_size)
        self.views = views_of(config)
        views = len(self.views)
        with torch.device("meta"):  # its weights come from a file, and need no random start
            self.encoder = Encoder()
        self.memories = nn.ModuleList(make_memory(view, config) for view in self.views)
        self.register_buffer("lengths", torch.ones(len(CHANNELS)))
        self.register_buffer("usual_level", torch.ones(views))
        # For each memory what is usual at a place, then for each what is usual anywhere.
        self.register_buffer("means", torch.zeros(2 * views, height, width))
        self.register_buffer("deviations", torch.ones(2 * views, height, width))
        self.register_buffer("weights", torch.full((2 * views,), 1 / (2 * views)))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("colours", torch.zeros(VIEWS[0].features, COLOURS))
        self.register_buffer("colour_bias", torch.zeros(COLOURS))

    def forward(self, images: Tensor) -> DraemOutput:
        """Find the normal counterparts of an image's features and mark what differs from them.

        Args:
            images: (batch, 3, height, width) RGB in [0, 1], of the image size of the configuration.

        Returns:
            The reconstruction is a coarse picture of the normal counterparts.

        Raises:
            ImageSizeError: A side is not divisible by 32.
        """
        check_image_size(images.shape[-2], images.shape[-1])
        levels = self.encoder(images)
        distances = []
        reconstruction = images
        for place, view in enumerate(self.views):
            cells = joint_features(levels, self.lengths, view)
            counterparts, distance = compare(self.memory(place), cells, view)
            distances.append(distance)
            if place == 0:
                reconstruction = self._picture(counterparts)
        return DraemOutput(reconstruction, self.mask_logits(torch.stack(distances, 1)))

    def memory(self, place: int) -> Memory:
        """The memory of one of the views."""
        return cast(Memory, self.memories[place])

    def mask_logits(self, distances: Tensor) -> Tensor:
        """The discriminator: from distances to the logits of normal and anomalous.

        Args:
            distances: (batch, memories, height / 8, width / 8), not negative.

        Returns:
            (batch, 2, height, width).
        """
        evidence = (self.evidence(distances) * self.weights[:, None, None]).sum(1, keepdim=True)
        # The logarithm keeps strong anomalies apart where a sigmoid would call all of them 1.
        logit = self.slope * positive_log(evidence) + self.bias
        logit = functional.interpolate(logit, scale_factor=STRIDE, mode="bilinear")
        return torch.cat((-logit / 2, logit / 2), 1)

    def evidence(self, distances: Tensor) -> Tensor:
        """How far distances are above what is usual at their place and anywhere, in deviations.

        Args:
            distances: (batch, memories, height / 8, width / 8), not negative.

        Returns:
            (batch, 2 * memories, height / 8, width / 8).
        """
        settled = distances * self._without_shift(distances)
        return (torch.cat((settled, settled), 1) - self.means) / self.deviations

    def _without_shift(self, distances: Tensor) -> Tensor:
        """What distances are multiplied by, at most 1: (batch, memories, 1, 1)."""
        growth = (low_level(distances) / self.usual_level).log() - _PLAUSIBLE_SHIFT
        return (-growth.clamp_min(0)).exp()[:, :, None, None]

    def _picture(self, counterpart: Tensor) -> Tensor:
        """A picture, (batch, 3, height, width), of the first memory's whitened features.

        Args:
            counterpart: (batch, cells down, cells across, features).
        """
        colours = counterpart @ self.colours + self.colour_bias
        return functional.pixel_shuffle(colours.permute(0, 3, 1, 2), STRIDE)


def views_of(config: ResolvedNetworkConfig) -> tuple[View, ...]:
    """The views of a network; tiles have no places."""
    return tuple(view for view in VIEWS if config.tile is None or not view.by_place)


def make_memory(view: View, config: ResolvedNetworkConfig) -> Memory:
    """An empty memory of a view."""
    if not view.by_place:
        return SubspaceMemory(view.features, config.subspaces, config.subspace_rank)
    height, width = (side // (STRIDE * view.shrunk) for side in config.image_size)
    return PlaceMemory(view.features, height * width)


def build_pretrained(config: ResolvedNetworkConfig) -> PretrainedDraem:
    """A network with the encoder that comes with draem, whose memories are empty yet.

    Raises:
        ModelFileError: The installed package lacks the encoder's file.
    """
    network = PretrainedDraem(config)
    network.encoder = load_encoder()
    return network.eval().requires_grad_(False)


def joint_features(levels: Sequence[Tensor], lengths: Tensor, view: View) -> Tensor:
    """The features of a view at its cells.

    Args:
        levels: Feature maps (batch, channels, height, width), the finest first.
        lengths: The usual length of each level's features.
        view: How the features are looked at.

    Returns:
        (batch, height / view.shrunk, width / view.shrunk, view.features).
    """
    size = [side // view.shrunk for side in levels[0].shape[-2:]]
    first, last = view.levels
    found = []
    for place in range(first, last + 1):
        level, usual = levels[place], lengths[place]
        length = usual
        if view.unit_length:
            length = level.square().sum(1, keepdim=True).sqrt() + _SHORT * usual
        features = level / length
        if view.pooling > 1:
            features = functional.avg_pool2d(
                features, view.pooling, 1, view.pooling // 2, count_include_pad=False
            )
        if features.shape[-1] > size[1]:
            features = functional.avg_pool2d(features, view.shrunk)
        elif features.shape[-1] < size[1]:
            features = functional.interpolate(features, size=size, mode="bilinear")
        found.append(features)
    return torch.cat(found, 1).permute(0, 2, 3, 1)


def compare(memory: Memory, cells: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Find the normal counterparts of features, and how far from them the features are.

    Args:
        memory: That of the view.
        cells: (batch, cells down, cells across, features), as `joint_features` gives them.
        view: How the memory looks at the features.

    Returns:
        The counterparts, whitened, as large as `cells`; and the Euclidean distances,
        (batch, height, width), at the finest cells.
    """
    whitened = memory.whiten(cells.flatten(1, 2))
    counterparts = memory(whitened)
    distances = (whitened - counterparts).square().sum(2).sqrt().view(cells.shape[:3])
    if view.shrunk > 1:
        distances = functional.interpolate(
            distances[:, None], scale_factor=view.shrunk, mode="bilinear"
        )[:, 0]
    return counterparts.view(cells.shape), distances


def low_level(distances: Tensor) -> Tensor:
    """How low the lowest distances of an image are: a power mean.

    Args:
        distances: (batch, memories, height, width).

    Returns:
        (batch, memories).
    """
    inverse = (_LEAST_DISTANCE / distances.clamp_min(_LEAST_DISTANCE)).pow(_LOW_MEAN)
    return _LEAST_DISTANCE * inverse.mean((2, 3)).pow(-1 / _LOW_MEAN)


def positive_log(evidence: Tensor) -> Tensor:
    """log(log(1 + exp(x))): about x below 0, about log(x) above."""
    softplus = evidence.clamp_min(0) + torch.log1p((-evidence.abs()).exp())
    # Below -15 the sum is lost in rounding; there nothing is anomalous anyway.
    return softplus.clamp_min(1e-6).log()
