"""Importances after Sundaram et al. (arXiv 2601.19794): accumulated gradients, Fisher information, uncertainty.

That paper takes the gradients of the training loss, while training. A trained controller's loss has none left, so here
they are those of its outputs under random targets (`pruning.output_gradients`), at any point of training or after it,
by the definitions of the literature named at each. A group's parameters are the rows of the linear layers that write
its units, with their biases, and the columns of those that read them. The functions give raw sums, which compare across
the whole controller: its outputs count by their standard deviations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunectl.pruning.graph import Group, columns
from prunectl.pruning.importance.evidence import Array, Evidence


def gradient(evidence: Evidence, group: Group) -> Array:
    """sum_t |g_t|, the norm of a unit's gradient accumulated over the steps t: how hard training would pull at it.

    Molchanov et al. (2017) and the paper accumulate over training; here over minibatches of the calibration data. By
    the central limit |g_t| comes near the root of the unit's summed Fisher information, which does not ask how large
    the weights are that would go.
    """
    steps, axes = evidence.gradient_steps, evidence.graph.layer_axes
    squared = [_summed(steps[layer].rows, columns(axes[layer][1], group.name)) for layer in group.producers]
    squared += [_summed(steps[layer].columns, columns(axes[layer][0], group.name)) for layer in group.consumers]
    return np.asarray(np.sqrt(np.sum(squared, axis=0)).sum(axis=0))


def _summed(values: Array, where: slice | NDArray[np.intp]) -> Array:
    """``(steps, units)``: what belongs to each unit of ``(steps, width)``, summed where that is several."""
    return values[:, where] if isinstance(where, slice) else np.asarray(values[:, where].sum(axis=2))


def fisher(evidence: Evidence, group: Group) -> Array:
    """sum_w F_ww w^2: twice the rise of the outputs' divergence when the unit's weights w go, to second order.

    The saliency of Optimal Brain Damage (LeCun et al. 1990) with the Fisher information for the Hessian (Theis et al.
    2018). The sum of F_ww alone would be another importance of a ReLU unit whose weights in are doubled and out halved,
    and the same controller; times w^2 it is not.
    """
    saliency = evidence.of_units(group, lambda layer: evidence.fisher[layer] * evidence.parameters(layer) ** 2)
    return np.asarray(saliency.sum(axis=1))


def uncertainty(evidence: Evidence, group: Group) -> Array:
    """sum_w |w| / sigma_w, how many of its posterior's standard deviations each weight lies from zero, summed.

    The signal-to-noise ratio of Graves (2011) and Blundell et al. (2015, section 3.5), whose posteriors are trained;
    here Laplace's around the weights as they are (MacKay 1992), diagonal: 1 / sigma_w^2 = n F_ww + 1 / m, n rows, with
    a Gaussian prior as wide as the layer's own weights (m their mean square), which speaks where the data say nothing.
    """
    count = len(evidence.inputs[0])

    def signal(layer: str) -> Array:
        values = evidence.parameters(layer)
        precision = count * evidence.fisher[layer] + 1 / max(float((values**2).mean()), 1e-12)
        return np.asarray(np.abs(values) * np.sqrt(precision))

    return np.asarray(evidence.of_units(group, signal).sum(axis=1))
