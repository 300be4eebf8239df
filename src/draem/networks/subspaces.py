"""A memory of normal features: many small flat pieces that together follow their distribution.

A cell's features are compared with their projection onto the nearest piece, an affine subspace of
few dimensions. Subspaces cover what lies between the features that were seen, so that some hundreds
of them do the work of tens of thousands of stored features.

Source:
    The union of local principal subspaces: Kambhatla and Leen, Dimension Reduction by Local
    Principal Component Analysis, Neural Computation 1997. A memory of normal features for anomaly
    detection: Roth et al., PatchCore, CVPR 2022; Yang et al., MemSeg, 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SubspaceMemory(nn.Module):
    """Finds the normal counterpart of features.

    Args:
        features: Size of a feature vector.
        projected: Principal components that subspaces are sought in; what lies outside of them has
            no normal counterpart.
        subspaces: How many there are.
        rank: Dimensions of each.
    """

    mean: Tensor
    components: Tensor
    centres: Tensor
    directions: Tensor

    def __init__(self, features: int, projected: int, subspaces: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("components", torch.zeros(projected, features))
        self.register_buffer("centres", torch.zeros(subspaces, projected))
        self.register_buffer("directions", torch.zeros(subspaces, rank, projected))

    def forward(self, features: Tensor) -> Tensor:
        """The normal counterparts: projections onto the nearest subspace.

        Args:
            features: (count, features).

        Returns:
            (count, features).
        """
        inner = (features - self.mean) @ self.components.T  # (count, projected)
        nearest = self._nearest(inner)
        centre = self.centres[nearest]  # (count, projected)
        directions = self.directions[nearest]  # (count, rank, projected)
        along = torch.bmm(directions, (inner - centre)[:, :, None])  # (count, rank, 1)
        counterpart = centre + torch.bmm(along.transpose(1, 2), directions)[:, 0]
        return self.mean + counterpart @ self.components

    def _nearest(self, inner: Tensor) -> Tensor:
        """The nearest subspace of (count, projected) vectors."""
        subspaces, rank, _ = self.directions.shape
        offset = (self.directions * self.centres[:, None]).sum(2).flatten()
        along = torch.addmm(-offset, inner, self.directions.flatten(0, 1).T)
        inside = along.square_().view(-1, subspaces, rank).sum(2)
        # The squared distance, but for the squared length of each vector, equal for all subspaces.
        length = self.centres.square().sum(1)
        return (torch.addmm(length, inner, self.centres.T, alpha=-2) - inside).argmin(1)
