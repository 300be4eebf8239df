from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from draem.networks.checkpointing import CheckpointedModule, frozen_statistics
from draem.networks.model import Draem
from tests.support import small_draem

ARCHITECTURES = ("published", "compact")


def images(count: int = 2, side: int = 64) -> Tensor:
    pictures = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pictures.contiguous(memory_format=torch.channels_last)


def built(architecture: str, *, recompute: bool, widths: tuple[int, int] = (8, 4)) -> Draem:
    network = small_draem(*widths, architecture, seed=1).to(memory_format=torch.channels_last)
    network.checkpoint_activations(recompute)
    return network


def loss_of(network: Draem, pictures: Tensor) -> Tensor:
    output = network(pictures)
    return (output.reconstruction - pictures).square().mean() + output.mask_logits.exp().mean()


def stepped(network: Draem, *, autocast: bool = False) -> list[Tensor]:
    """Two losses with a step of gradient descent between them, all gradients and statistics."""
    losses = []
    for _ in range(2):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(network, images())
        loss.backward()
        losses.append(loss.detach())
        with torch.no_grad():
            for parameter in network.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    return [*losses, *gradients, *(value.clone() for value in network.state_dict().values())]


def saved_bytes(network: Draem, pictures: Tensor) -> int:
    """What the backward pass keeps of the forward pass, apart from weights and images."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(network, pictures)
    for tensor in (*network.state_dict().values(), pictures, loss):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(kept.values())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_gradients_and_statistics_stay_the_same(architecture: str, autocast: bool) -> None:
    plain = stepped(built(architecture, recompute=False), autocast=autocast)
    again = stepped(built(architecture, recompute=True), autocast=autocast)

    assert len(plain) == len(again)
    assert all(torch.equal(first, second) for first, second in zip(plain, again, strict=True))


@pytest.mark.parametrize(
    ("architecture", "widths"), [("published", (16, 8)), ("compact", (32, 16))]
)
def test_less_than_half_is_kept(architecture: str, widths: tuple[int, int]) -> None:
    plain, again = (
        saved_bytes(built(architecture, recompute=on, widths=widths), images())
        for on in (False, True)
    )

    assert again < 0.5 * plain


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_kept_grows_with_the_batch_alone(architecture: str) -> None:
    network = built(architecture, recompute=True)

    few, many = (saved_bytes(network, images(count)) for count in (2, 6))

    assert few < many < 3.1 * few


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_convolutions_run_twice_in_training_and_once_otherwise(architecture: str) -> None:
    network = built(architecture, recompute=True)
    runs: list[nn.Module] = []
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    for convolution in convolutions:
        convolution.register_forward_hook(lambda part, _in, _out: runs.append(part))

    with torch.no_grad():
        network(images())
    assert len(runs) == len(convolutions)

    runs.clear()
    loss_of(network, images()).backward()
    heads = 2
    assert len(runs) == 2 * len(convolutions) - heads


def test_it_can_be_turned_off_again() -> None:
    network = built("published", recompute=True)
    kept = saved_bytes(network, images())

    network.checkpoint_activations(False)

    assert saved_bytes(network, images()) > 2 * kept


def test_settled_statistics_stay_and_outputs_do_not_change() -> None:
    norm = nn.BatchNorm2d(3)
    features = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = norm(features)
    before = {name: value.clone() for name, value in norm.state_dict().items()}

    with frozen_statistics(nn.Sequential(norm)):
        settled = norm(features)

    assert torch.equal(settled, expected)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm(features)
    assert int(norm.num_batches_tracked or 0) == 2


def test_statistics_are_followed_again_after_an_error() -> None:
    norm = nn.BatchNorm2d(2)

    with pytest.raises(ZeroDivisionError), frozen_statistics(norm):
        raise ZeroDivisionError

    assert (norm.momentum, int(norm.num_batches_tracked or 0)) == (0.1, 0)


def test_a_section_is_what_it_holds() -> None:
    part = CheckpointedModule()
    features = torch.tensor([1.0, 2.0], requires_grad=True)
    part.recompute = True

    doubled = part.checkpointed(lambda first, second: first * second, features, features)
    (gradient,) = torch.autograd.grad(doubled.sum(), features)

    torch.testing.assert_close(gradient, 2 * features.detach())
