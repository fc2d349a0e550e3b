"""Which rule stands for which canonical op."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stablelint.predict.call import Call, Result
from stablelint.predict.functions import STEPS, UNARY
from stablelint.predict.transfer import (
    attention,
    contraction,
    convolution,
    elementwise,
    layout,
    loss,
    normalization,
    operators,
    pooling,
    recurrent,
    reduction,
    softmax,
    sources,
)

Rule = Callable[[Call], Result]


def _table(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(UNARY, elementwise.elementwise),
    **dict.fromkeys(STEPS, elementwise.step),
    "prelu": elementwise.prelu,
    "pow": elementwise.powered,
    # two operands
    **_table(operators.addition, "add sub"),
    **_table(operators.extremum, "maximum minimum"),
    "mul": operators.product,
    "div": operators.quotient,
    "addcmul": operators.addcmul,
    "addcdiv": operators.addcdiv,
    "lerp": operators.lerp,
    "glu": operators.glu,
    "masked_fill": operators.masked_fill,
    "where": operators.where,
    **_table(operators.triangle, "tril triu"),
    "dropout": operators.dropout,
    # contractions
    "linear": contraction.linear,
    "bilinear": contraction.bilinear,
    "matmul": contraction.matmul,
    "grouped_mm": contraction.grouped_mm,
    "einsum": contraction.einsum,
    "embedding": contraction.embedding,
    "conv": convolution.conv,
    "conv_transpose": convolution.conv_transpose,
    # attention
    "scaled_dot_product_attention": attention.scaled_dot_product_attention,
    **_table(softmax.softmax, "softmax softmin gumbel_softmax"),
    "log_softmax": softmax.log_softmax,
    # norms
    "layer_norm": normalization.layer_norm,
    "rms_norm": normalization.rms_norm,
    "batch_norm": normalization.batch_norm,
    "instance_norm": normalization.instance_norm,
    "group_norm": normalization.group_norm,
    "normalize": normalization.normalize,
    "weight_norm": normalization.weight_norm,
    "local_response_norm": normalization.local_response_norm,
    # reductions
    **_table(reduction.reduction, "mean sum nanmean nansum"),
    **_table(reduction.variance, "var std var_mean std_mean"),
    "norm": reduction.vector_norm,
    **_table(reduction.extreme_value, "amax amin max min"),
    "logsumexp": reduction.log_sum_exp,
    "cumsum": reduction.cumulative,
    **_table(reduction.sorted_values, "sort topk"),
    # pooling
    "avg_pool": pooling.avg_pool,
    "max_pool": pooling.max_pool,
    "interpolate": pooling.interpolate,
    # moving elements
    **_table(
        layout.reshape, "reshape flatten unflatten squeeze unsqueeze pixel_shuffle pixel_unshuffle channel_shuffle"
    ),
    **_table(layout.identity, "contiguous clone to identity nan_to_num positive requires_grad detach_copy alias"),
    "detach": layout.detach,
    **_table(layout.permute, "permute transpose movedim"),
    "expand": layout.expand,
    "repeat": layout.repeat,
    "repeat_interleave": layout.repeat_interleave,
    **_table(layout.move, "roll flip"),
    "cat": layout.cat,
    "stack": layout.stack,
    **_table(layout.split, "split chunk"),
    "unbind": layout.unbind,
    "select": layout.select,
    "narrow": layout.cut,
    "getitem": layout.getitem,
    "index_select": layout.index_select,
    **_table(layout.gather, "gather take_along_dim masked_select diagonal"),
    "pad": layout.pad,
    **_table(layout.setitem, "setitem copy"),
    **_table(layout.scatter, "scatter scatter_add index_add masked_scatter index_put"),
    **_table(layout.unfold, "unfold fold"),
    # what comes from nowhere
    **_table(sources.zeros, "zeros zero zeros_like new_zeros empty_like empty new_empty"),
    **_table(sources.ones, "ones ones_like new_ones"),
    **_table(sources.filled, "full full_like new_full fill"),
    **_table(sources.uniform, "uniform rand rand_like"),
    **_table(sources.normal, "randn randn_like normal"),
    "bernoulli": sources.bernoulli,
    # losses
    **_table(loss.distance, "mse_loss l1_loss smooth_l1_loss huber_loss"),
    "bce_with_logits": loss.bce_with_logits,
    "bce": loss.bce,
    "kl_div": loss.kl_div,
    "cross_entropy": loss.cross_entropy,
    "nll_loss": loss.nll_loss,
    # recurrence
    **_table(recurrent.recurrent, "lstm gru rnn"),
    **_table(recurrent.cell, "lstm_cell gru_cell rnn_cell"),
}
