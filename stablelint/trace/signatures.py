"""Tables behind the canonical names: which spellings mean the same and what their arguments are called."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of ``text`` as a set."""
    return frozenset(text.split())


#: Canonical name -> other names (without leading underscores, dunders and the trailing ``_`` of in-place variants).
_SPELLINGS = {
    "conv": "conv1d conv2d conv3d convolution",
    "conv_transpose": "conv_transpose1d conv_transpose2d conv_transpose3d",
    "matmul": "mm bmm mv dot linalg_matmul vdot",
    "addmm": "addbmm baddbmm addmv",
    "add": "radd iadd",
    "sub": "subtract isub",
    "mul": "multiply imul rmul",
    "div": "divide true_divide truediv itruediv idiv",
    "pow": "ipow float_power",
    "floor_divide": "floordiv ifloordiv",
    "remainder": "mod imod",
    "bitwise_and": "and iand rand",
    "bitwise_or": "or ior ror",
    "bitwise_xor": "xor ixor rxor",
    "bitwise_not": "invert",
    "eq": "equal_to",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "neg": "negative",
    "abs": "absolute",
    "sigmoid": "expit special_expit",
    "erf": "special_erf",
    "logsumexp": "special_logsumexp",
    "silu": "swish",
    "logsigmoid": "log_sigmoid",
    "threshold": "threshold",
    "rrelu": "rrelu_with_noise",
    "dropout": "dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout native_dropout",
    "softmax": "special_softmax",
    "log_softmax": "special_log_softmax",
    "clamp": "clip clamp_min clamp_max",
    "reshape": "view unsafe_view view_as reshape_as",
    "flatten": "ravel",
    "transpose": "swapaxes swapdims t T mT H mH adjoint matrix_transpose",
    "expand": "expand_as broadcast_to broadcast_tensors",
    "movedim": "moveaxis",
    "repeat": "tile",
    "split": "split_with_sizes tensor_split hsplit vsplit dsplit",
    "cat": "concat concatenate",
    "to": "float half double bfloat16 long int bool short char byte type type_as cpu cuda",
    "detach": "data",
    "getitem": "",
    "setitem": "",
    "max_pool": "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices "
    "max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
    "fractional_max_pool2d fractional_max_pool3d",
    "avg_pool": "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "cross_entropy": "cross_entropy_loss",
    "nll_loss": "nll_loss_nd nll_loss2d",
    "norm": "linalg_norm linalg_vector_norm linalg_matrix_norm",
    "rnn": "rnn_tanh rnn_relu",
    "rnn_cell": "rnn_tanh_cell rnn_relu_cell",
    "maximum": "fmax",
    "minimum": "fmin",
    "rsub": "",
    "arccos": "acos",
    "arcsin": "asin",
    "acosh": "arccosh",
    "reciprocal": "",
    "exp2": "special_exp2",
    "expm1": "special_expm1",
    "log1p": "special_log1p",
    "select_scatter": "",
}
CANONICAL = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}
CANONICAL |= {"arccos": "acos", "arcsin": "asin", "acos": "acos", "asin": "asin", "arctan": "atan"}

#: Functions of two operands, either of which may be a Python scalar.
BINARY = words(
    "add sub mul div pow floor_divide remainder fmod maximum minimum atan2 xlogy eq ne lt le gt ge logical_and "
    "logical_or logical_xor bitwise_and bitwise_or bitwise_xor hypot logaddexp copysign"
)

#: Spellings with the operands the other way round.
REVERSED = {
    "__rsub__": "sub",
    "rsub": "sub",
    "__rtruediv__": "div",
    "__rdiv__": "div",
    "__rpow__": "pow",
    "__rfloordiv__": "floor_divide",
    "__rmod__": "remainder",
    "__rmatmul__": "matmul",
}

_CONV = "input weight bias stride padding dilation groups"
_POOL = "input kernel_size stride padding dilation ceil_mode return_indices"
_RNN = "input hx weights has_bias num_layers dropout training bidirectional batch_first"
_CELL = "input hx weight_ih weight_hh bias_ih bias_hh"
_REDUCE = "input dim keepdim"

#: Argument names by canonical name, in the order of the signature.
SIGNATURES = {
    name: tuple(signature.split())
    for name, signature in {
        "linear": "input weight bias",
        "bilinear": "input1 input2 weight bias",
        "conv": _CONV,
        "conv_transpose": "input weight bias stride padding output_padding groups dilation",
        "matmul": "input other",
        "addmm": "bias input other",
        "embedding": "input weight padding_idx max_norm norm_type scale_grad_by_freq sparse",
        "embedding_bag": "input weight offsets max_norm norm_type scale_grad_by_freq mode sparse per_sample_weights",
        "softmax": "input dim stacklevel dtype",
        "log_softmax": "input dim stacklevel dtype",
        "softmin": "input dim stacklevel dtype",
        "gumbel_softmax": "input tau hard eps dim",
        "scaled_dot_product_attention": "query key value mask dropout_p is_causal scale enable_gqa",
        "layer_norm": "input normalized_shape weight bias eps",
        "batch_norm": "input running_mean running_var weight bias training momentum eps",
        "group_norm": "input groups weight bias eps",
        "instance_norm": "input running_mean running_var weight bias use_input_stats momentum eps",
        "rms_norm": "input normalized_shape weight eps",
        "local_response_norm": "input size alpha beta k",
        "normalize": "input p dim eps",
        "lstm": _RNN,
        "gru": _RNN,
        "rnn": _RNN,
        "lstm_cell": _CELL,
        "gru_cell": _CELL,
        "rnn_cell": _CELL,
        "prelu": "input weight",
        "relu": "input inplace",
        "relu6": "input inplace",
        "selu": "input inplace",
        "silu": "input inplace",
        "mish": "input inplace",
        "hardswish": "input inplace",
        "hardsigmoid": "input inplace",
        "hardtanh": "input min max inplace",
        "gelu": "input approximate",
        "elu": "input alpha inplace",
        "celu": "input alpha inplace",
        "leaky_relu": "input negative_slope inplace",
        "rrelu": "input lower upper training inplace",
        "softplus": "input beta threshold",
        "threshold": "input threshold value inplace",
        "hardshrink": "input lambd",
        "softshrink": "input lambd",
        "glu": "input dim",
        "dropout": "input p training inplace",
        "clamp": "input min max",
        "max_pool": _POOL,
        "avg_pool": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
        "interpolate": "input size scale_factor mode align_corners",
        "cross_entropy": "input target weight size_average ignore_index reduce reduction label_smoothing",
        "nll_loss": "input target weight size_average ignore_index reduce reduction",
        "mse_loss": "input target size_average reduce reduction",
        "l1_loss": "input target size_average reduce reduction",
        "smooth_l1_loss": "input target size_average reduce reduction beta",
        "huber_loss": "input target reduction delta",
        "kl_div": "input target size_average reduce reduction log_target",
        "bce": "input target weight size_average reduce reduction",
        "bce_with_logits": "input target weight size_average reduce reduction pos_weight",
        "mean": _REDUCE,
        "sum": _REDUCE,
        "nansum": _REDUCE,
        "amax": _REDUCE,
        "amin": _REDUCE,
        "max": _REDUCE,
        "min": _REDUCE,
        "prod": _REDUCE,
        "argmax": _REDUCE,
        "argmin": _REDUCE,
        "any": _REDUCE,
        "all": _REDUCE,
        "logsumexp": _REDUCE,
        "median": _REDUCE,
        "var": "input dim unbiased keepdim",
        "std": "input dim unbiased keepdim",
        "var_mean": "input dim unbiased keepdim",
        "std_mean": "input dim unbiased keepdim",
        "norm": "input p dim keepdim dtype",
        "cumsum": "input dim",
        "cumprod": "input dim",
        "logcumsumexp": "input dim",
        "sort": "input dim descending",
        "argsort": "input dim descending",
        "topk": "input k dim largest sorted",
        "flatten": "input start_dim end_dim",
        "unflatten": "input dim sizes",
        "squeeze": "input dim",
        "unsqueeze": "input dim",
        "transpose": "input dim0 dim1",
        "movedim": "input source destination",
        "select": "input dim index",
        "narrow": "input dim start length",
        "index_select": "input dim index",
        "gather": "input dim index",
        "take_along_dim": "input indices dim",
        "scatter": "input dim index src",
        "scatter_add": "input dim index src",
        "index_add": "input dim index source",
        "split": "input size dim",
        "chunk": "input chunks dim",
        "unbind": "input dim",
        "cat": "tensors dim",
        "stack": "tensors dim",
        "roll": "input shifts dims",
        "repeat_interleave": "input repeats dim",
        "masked_fill": "input mask value",
        "masked_select": "input mask",
        "where": "condition input other",
        "lerp": "input end weight",
        "addcmul": "input tensor1 tensor2",
        "addcdiv": "input tensor1 tensor2",
        "tril": "input diagonal",
        "triu": "input diagonal",
        "pad": "input pad mode value",
        "unfold": "input dimension size step",
        "getitem": "input index",
        "setitem": "input index value",
        "to": "input dtype",
        "nan_to_num": "input nan posinf neginf",
        "one_hot": "input num_classes",
        "copy": "input source",
        "fill": "input value",
    }.items()
}

_LOSS: dict[str, object] = {"reduction": "mean"}

#: What an argument is when a call leaves it out.
DEFAULTS: dict[str, dict[str, object]] = {
    "scaled_dot_product_attention": {"scale": None, "is_causal": False, "dropout_p": 0.0},
    "layer_norm": {"eps": 1e-5},
    "batch_norm": {"eps": 1e-5, "training": False, "momentum": 0.1},
    "group_norm": {"eps": 1e-5},
    "instance_norm": {"eps": 1e-5},
    "rms_norm": {"eps": None},
    "normalize": {"p": 2.0, "dim": 1, "eps": 1e-12},
    "dropout": {"p": 0.5, "training": True},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "celu": {"alpha": 1.0},
    "gelu": {"approximate": "none"},
    "softplus": {"beta": 1, "threshold": 20},
    "glu": {"dim": -1},
    "cat": {"dim": 0},
    "stack": {"dim": 0},
    "split": {"dim": 0},
    "chunk": {"dim": 0},
    "unbind": {"dim": 0},
    "cross_entropy": _LOSS,
    "nll_loss": _LOSS,
    "mse_loss": _LOSS,
    "l1_loss": _LOSS,
    "bce": _LOSS,
    "bce_with_logits": _LOSS,
}

#: Positional arguments after the first that form one argument: ``x.view(2, 3)`` is ``x.view((2, 3))``.
VARIADIC = {"reshape": "shape", "permute": "dims", "expand": "shape", "repeat": "repeats", "flip": "dims"}

#: Keyword arguments with several names.
KEYWORDS = {
    "axis": "dim",
    "keepdims": "keepdim",
    "num_groups": "groups",
    "attn_mask": "mask",
    "other": "other",
    "exponent": "other",
    "ord": "p",
    "rounding_mode": "rounding_mode",
    "split_size_or_sections": "size",
    "split_size": "size",
    "output_size": "output_size",
    "min_val": "min",
    "max_val": "max",
    "_stacklevel": "stacklevel",
    "train": "training",
}

#: Arguments that count axes from the back when negative.
DIMS = frozenset({"dim", "dim0", "dim1", "dims", "start_dim", "end_dim", "source", "destination"})

#: Arguments that never matter to a rule.
DROPPED = frozenset({"stacklevel", "size_average", "reduce", "inplace", "out", "memory_format", "non_blocking", "copy"})
