"""A memory of normal features: many small flat pieces that together follow their distribution.

A cell's features are whitened, then compared with their projection onto the nearest piece, an
affine subspace of few dimensions. Subspaces cover what lies between the features that were seen, so
that some hundreds of them do the work of tens of thousands of stored features. Whitening lets
features that hardly vary between normal images count for more: there, defects stand out.

Source:
    The union of local principal subspaces: Kambhatla and Leen, Dimension Reduction by Local
    Principal Component Analysis, Neural Computation 1997. A memory of normal features for anomaly
    detection: Roth et al., PatchCore, CVPR 2022; Yang et al., MemSeg, 2023. That directions of low
    variance tell defects: Rippel, Mertens and Merhof, Modeling the Distribution of Normal Data in
    Pre-Trained Deep Features for Anomaly Detection, ICPR 2020. A mean for each place: Defard et
    al., PaDiM, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SEARCHED = 4
"""Leading directions of a subspace that the nearest one is sought by; they hold most of what there
is to gain, and the search takes most of the time."""


class Memory(nn.Module):
    """Finds the normal counterpart of features.

    Args:
        features: Size of a feature vector.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))

    def whiten(self, features: Tensor) -> Tensor:
        """Whitened features.

        Args:
            features: (..., features).

        Returns:
            (..., features).
        """
        return (features - self.mean) @ self.whitening

    def forward(self, whitened: Tensor) -> Tensor:
        """The normal counterparts.

        Args:
            whitened: (images, cells, features), from `whiten`.

        Returns:
            (images, cells, features), whitened too.
        """
        raise NotImplementedError


class PlaceMemory(Memory):
    """Holds what is usual at each place, for parts that always lie alike.

    Args:
        features: Size of a feature vector.
        cells: How many places an image has.
    """

    usual: Tensor

    def __init__(self, features: int, cells: int) -> None:
        super().__init__(features)
        self.register_buffer("usual", torch.zeros(cells, features))

    def forward(self, whitened: Tensor) -> Tensor:
        """The means of the places."""
        return torch.zeros_like(whitened) + self.usual


class SubspaceMemory(Memory):
    """Holds subspaces.

    Args:
        features: Size of a feature vector.
        subspaces: How many there are.
        rank: Dimensions of each.
    """

    centres: Tensor
    directions: Tensor

    def __init__(self, features: int, subspaces: int, rank: int) -> None:
        super().__init__(features)
        self.register_buffer("centres", torch.zeros(subspaces, features))
        # Of each subspace, the direction of the greatest variance first.
        self.register_buffer("directions", torch.zeros(subspaces, rank, features))

    def forward(self, whitened: Tensor) -> Tensor:
        """The projections onto the nearest subspace."""
        flat = whitened.flatten(0, 1)
        nearest = self._nearest(flat)
        centre = self.centres[nearest]  # (count, features)
        directions = self.directions[nearest]  # (count, rank, features)
        along = torch.bmm(directions, (flat - centre)[:, :, None])  # (count, rank, 1)
        counterpart = centre + torch.bmm(along.transpose(1, 2), directions)[:, 0]
        return counterpart.view(whitened.shape)

    def _nearest(self, whitened: Tensor) -> Tensor:
        """The nearest subspace of (count, features) vectors."""
        leading = self.directions[:, :_SEARCHED]
        subspaces, searched, _ = leading.shape
        offset = (leading * self.centres[:, None]).sum(2).flatten()
        along = torch.addmm(-offset, whitened, leading.flatten(0, 1).T)
        inside = along.square_().view(-1, subspaces, searched).sum(2)
        # The squared distance, but for the squared length of each vector, equal for all subspaces.
        length = self.centres.square().sum(1)
        return (torch.addmm(length, whitened, self.centres.T, alpha=-2) - inside).argmin(1)
