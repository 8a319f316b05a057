"""The layers and the loss of the default network. `members` are the networks that it contains."""

import keras
import numpy as np
from keras import ops

from nightly.records.label_config import Kind

SMALLEST = 1e-7  # probability in a logarithm


class Ramps(keras.layers.Layer):
    """Ranks [n, columns] from 0 to 1 -> [n, columns, bins]: how much of each bin of equal width lies below the rank.

    A weighted sum of these is a piecewise-linear function of the rank.
    """

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins

    def call(self, ranks):
        return ops.clip(ranks[..., None] * self.bins - ops.arange(self.bins, dtype="float32"), 0, 1)


class Pooled(keras.layers.Layer):
    """The mean over the values [n, columns, values, dimensions] that are there; 0 if none is."""

    def call(self, values, there):
        total = ops.sum(values * there[..., None], axis=2)
        return total / ops.maximum(ops.sum(there, axis=2), 1)[..., None]


class Members(keras.layers.Layer):
    """A dense layer [n, members, inputs] -> [n, members, width], with one kernel, and scales of each member's own.

    :param random_signs: begin with scales of 1 or -1, so that members differ
    """

    def __init__(self, width: int, random_signs: bool):
        super().__init__()
        self.width, self.random_signs = width, random_signs

    def build(self, shape):
        _, members, inputs = shape
        self.kernel = self.add_weight((inputs, self.width), "he_normal", name="kernel")
        self.scale_in = self.add_weight((members, inputs), _signs if self.random_signs else "ones", name="scale_in")
        self.scale_out = self.add_weight((members, self.width), "ones", name="scale_out")
        self.bias = self.add_weight((members, self.width), "zeros", name="bias")

    def call(self, hidden):
        return ops.matmul(hidden * self.scale_in, self.kernel) * self.scale_out + self.bias


class OwnWeights(keras.layers.Layer):
    """A dense layer [n, members, inputs] -> [n, members, width], with a kernel of each member's own, which begins at 0.

    :param start: float [width], the bias at first
    """

    def __init__(self, start: np.ndarray):
        super().__init__()
        self.start = start

    def build(self, shape):
        _, members, inputs = shape
        self.kernel = self.add_weight((members, inputs, len(self.start)), "zeros", name="kernel")
        self.bias = self.add_weight(
            (members, len(self.start)), lambda shape, dtype=None: ops.broadcast_to(self.start, shape), name="bias"
        )

    def call(self, hidden):
        return ops.einsum("nmi,mio->nmo", hidden, self.kernel) + self.bias


class Mean(keras.layers.Layer):
    """The mean of the members' answers [n, members, width] -> [n, width]. While it trains, each is judged by itself."""

    def call(self, answers, training=None):
        return answers if training else ops.mean(answers, axis=1)

    def compute_output_shape(self, shape):
        return (shape[0], shape[2])


class EachMember(keras.losses.Loss):
    """Log loss, or of a number the squared error in standard deviations; the mean over the members.

    :param scale: the label's standard deviation
    """

    def __init__(self, kind: Kind, scale: float = 1.0):
        super().__init__(name=kind)
        self.kind, self.scale = kind, scale

    def call(self, labels, answers):
        """Return [n].

        :param labels: [n, 1]
        :param answers: [n, members, width] while it trains, else [n, width]
        """
        by_member = answers if len(answers.shape) == 3 else answers[:, None]
        if self.kind == "classes":
            of_label = ops.one_hot(ops.cast(labels, "int32"), answers.shape[-1])  # [n, 1, classes]
            losses = -ops.sum(of_label * ops.log(ops.maximum(by_member, SMALLEST)), axis=-1)
        else:
            truth, answer = ops.cast(labels, answers.dtype), by_member[..., 0]
            if self.kind == "number":
                losses = ops.square((truth - answer) / self.scale)
            else:
                answer = ops.clip(answer, SMALLEST, 1 - SMALLEST)
                losses = -(truth * ops.log(answer) + (1 - truth) * ops.log(1 - answer))
        return ops.mean(losses, axis=1)


def _signs(shape, dtype=None):
    return ops.where(keras.random.uniform(shape) < 0.5, -1.0, 1.0)
