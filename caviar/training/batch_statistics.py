"""Batch norm with the statistics of the rows that are predicted together, instead of its running averages."""

from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def use_batch_statistics(network: nn.Module) -> int:
    """Make each batch norm of a network normalise by the mean and the variance of the rows that it is given.

    Training does the same. One row alone is allowed: its variance is 0, so that batch norm returns beta for any row.

    Args:
        network: a network in evaluation mode; changed in place.

    Returns:
        The number of its batch norms.
    """
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    for norm in norms:
        norm.register_forward_hook(_normalise)
    return len(norms)


def _normalise(norm: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    """Return what replaces the output of a batch norm; channels are the second dimension."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    (z,) = inputs
    over = [dimension for dimension in range(z.ndim) if dimension != 1]
    z = z - z.mean(over, keepdim=True)
    var = z.square().mean(over, keepdim=True)
    z_norm: Tensor = z / (var + norm.eps).sqrt()
    if not norm.affine:
        return z_norm
    shape = [1, -1, *[1] * (z.ndim - 2)]
    return norm.weight.view(shape) * z_norm + norm.bias.view(shape)
