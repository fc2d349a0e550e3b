"""The op families that rules and queries speak of, by canonical name."""

from __future__ import annotations

#: Multiply by a trained weight.
WEIGHTED = frozenset({"linear", "bilinear", "conv", "conv_transpose", "embedding", "lstm", "gru", "rnn"})

#: Run a cell over time steps in one op.
RECURRENT = frozenset({"lstm", "gru", "rnn"})

#: Elementwise functions whose derivative tends to 0 on both sides; the value is the largest derivative.
SATURATING = {"sigmoid": 0.25, "tanh": 1.0, "hardsigmoid": 1 / 6, "softsign": 1.0, "hardtanh": 1.0, "erf": 1.13}

#: Elementwise functions that are exactly 0 with derivative 0 on a half line.
RECTIFIERS = frozenset({"relu", "relu6", "threshold", "hardswish", "hardshrink", "softshrink"})

#: All activation functions.
ACTIVATIONS = frozenset(SATURATING) | RECTIFIERS | frozenset(
    {"gelu", "silu", "mish", "elu", "selu", "celu", "leaky_relu", "rrelu", "prelu", "softplus", "logsigmoid", "glu",
     "tanhshrink"}
)  # fmt: skip

#: Divide by a statistic of their own input.
NORMS = frozenset(
    {"layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"}
)

#: Move or copy elements without changing any value.
RESHAPES = frozenset(
    {"reshape", "permute", "transpose", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "contiguous",
     "clone", "to", "getitem", "split", "chunk", "unbind", "select", "narrow", "repeat", "repeat_interleave",
     "roll", "identity", "index_select", "gather", "movedim", "detach_copy", "pixel_shuffle", "unfold", "flip"}
)  # fmt: skip

#: Add, with either sign.
SUMS = frozenset({"add", "sub"})

#: Contract two activations.
CONTRACTIONS = frozenset({"matmul", "einsum"})

#: Average or sum over axes.
REDUCTIONS = frozenset({"mean", "sum", "var", "std", "norm", "amax", "amin", "max", "min", "logsumexp", "var_mean"})

#: Take shape, dtype and device from their operand and nothing of its values.
SHAPE_ONLY = frozenset(
    {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like", "new_zeros",
     "new_ones", "new_full", "new_empty", "new_tensor"}
)  # fmt: skip
