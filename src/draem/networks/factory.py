"""The network that a configuration asks for."""

from __future__ import annotations

from draem.config import ResolvedNetworkConfig
from draem.networks.joint import JointModel
from draem.networks.model import Draem
from draem.networks.pretrained import PretrainedDraem


def empty_network(config: ResolvedNetworkConfig) -> JointModel:
    """A network whose weights are yet to be loaded."""
    return PretrainedDraem(config) if config.architecture == "pretrained" else Draem(config)
