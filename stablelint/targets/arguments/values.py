"""Usual values of constructor arguments, by name and by what the constructor does with them; small on purpose.

The sizes fit each other: widths are multiples of the heads, images of the patches, lists are as long as the stages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stablelint.targets.arguments.usage import Use

WIDTH = 64
HEADS = 4
DEPTH = 2
VOCABULARY = 100
LENGTH = 64
CLASSES = 10
IMAGE = 32

#: Pattern of the whole name (lower case), and values, best first. The first pattern that matches counts.
_TABLE: Sequence[tuple[str, tuple[Any, ...]]] = (
    # numbers that are no sizes
    (r".*(drop|dropout)(_?(p|prob|rate|ratio))?|drop.*|p_drop.*|.*dropout.*|.*drop_?(out|path).*", (0.1, 0.0)),
    (r".*(growth_rate|growth|k0)", (12,)),
    (r".*eps(ilon)?", (1e-5,)),
    (r".*momentum", (0.1,)),
    (r"lr|learning_rate|.*_lr", (1e-3,)),
    (r".*(weight_decay|wd)", (0.0,)),
    (r".*(negative_slope|leaky.*|lrelu.*)", (0.2,)),
    (r"alpha|.*_alpha", (0.2, 1.0)),
    (r"(.*_)?theta|rope_base|.*rope_theta|freq_base", (10_000.0,)),
    (
        r".*(temperature|temp|tau|scale|scale_factor|gamma|beta|lambda|lam|multiplier|weight|margin|coef(f|"
        r"ficient)?)",
        (1.0, 2),
    ),
    (r".*(std|stddev|init_range|initializer_range|init_scale|init_w|sigma|init_values?)", (0.02, 0.1)),
    (r".*(prob|probability|rate|ratio)", (0.25, 0.5, 4)),
    (r".*mlp_ratio|.*expansion(_factor|_ratio)?|.*expand(_ratio|_factor)?|ff_mult|mult", (4, 2)),
    (r".*(reduction|reduction_ratio|squeeze_factor|bottleneck_ratio)", (4, 16)),
    (r"omega(_0)?|w0", (30.0,)),
    # indices of tokens
    (r".*(pad|padding)(_?(idx|id|index|token|token_id|value))", (0,)),
    (r".*(bos|sos|start|cls|mask|unk)(_?(idx|id|index|token|token_id))", (1,)),
    (r".*(eos|end|sep)(_?(idx|id|index|token|token_id))", (2,)),
    (r".*ignore_index", (-100,)),
    (r"(.*_)?(layer_idx|layer_id|layer_index|block_idx|layer_num|idx|index)", (0,)),
    # sequences and images
    (r".*(patch_size|patch|patch_dim)", (4, 8, 16)),
    (r".*(window_size|win_size|window)", (4, 8, 7)),
    (
        r".*(image_?size|img_?size|input_resolution|resolution|im_size|crop_size|img_dim|image_dim|side|"
        r"img_sz|imsize)",
        (IMAGE, 64, 224),
    ),
    (r".*(frames|num_frames|n_frames)", (8,)),
    (r"(.*_)?(height|h|w)", (IMAGE, WIDTH)),
    (r".*(pred|label|prediction|forecast|horizon).*(len|length|window)|horizon|.*out.*(len|length)", (24, 16)),
    (
        r".*(max_?len(gth)?|max_seq_?len(gth)?|max_position.*|n_positions?|n_ctx|context_?(len(gth)?|size|"
        r"window)|block_size|seq_?(len(gth)?|size)|length|max_length|num_positions?|max_tokens|l_max|"
        r"n_tokens|num_patches|.*_len(gth)?|time_?steps?|seq|max_seq)",
        (LENGTH, 16),
    ),
    # vocabularies and classes
    (
        r".*(vocab(ulary)?_?size|voc_?size|n_?vocab|ntokens?|n_tokens?|num_tokens|num_embeddings|n_token|"
        r"vocab|num_words|n_words|dict_size|n_symbols|n_chars|num_chars|alphabet_size|codebook_size|"
        r"num_codes|n_embed|n_items?|n_users?|num_items?|num_users?|n_entities|src_vocab|trg_vocab|"
        r"tgt_vocab)",
        (VOCABULARY,),
    ),
    (
        r".*(n?_?class(es)?|num_class(es)?|class_num|nb_classes|nlabels|num_labels|n_labels|n_?outputs?|"
        r"num_outputs|n_cls|num_cls|classes|label_dim|target_size|tagset_size|n_targets|class_names)",
        (CLASSES,),
    ),
    # counts
    (
        r"(n|num|nb|d|de|en|e)?_?(heads?|n_?heads?|attn_heads?|attention_heads)|.*(n_?heads?|num_.*heads|"
        r"_heads|nhead|head_num|n_head_kv|num_kv_groups|n_kv_heads)|heads",
        (HEADS, 2, 8),
    ),
    (r".*(kernel_?(size|sizes|len)?|ksize|k_size|filter_size|kernel_.*|ks)", (3, 5)),
    (r".*(stride)s?", (1, 2)),
    (r".*(dilation)s?", (1,)),
    (r".*(padding|pad)", (1, 0)),
    (r".*(groups|cardinality|n_group|num_groups|group)", (4, 1, 8)),
    (
        r".*(depths|layers|num_blocks|nblocks|n_blocks|blocks|num_block|n_layers?|n_?layer|nlayers?|"
        r"num_layers?|depth|n_?stages?|num_stages|n_res.*|num_res.*|repeats?|n_stacks?|num_stacks?|"
        r"iterations?|n_iter|hops|num_convs|num_cells|n_flows?|e_layers|d_layers|levels?|n_levels|"
        r"num_levels|num_scales|n_downs?|num_downs?|downsampl.*|upsampl.*)",
        (DEPTH, 1, 3),
    ),
    (r".*(experts|n_experts|num_experts)", (4,)),
    (r".*(top_?k|topk|k|num_experts_per_tok)", (2, 1)),
    (
        r".*(candidates|num_latents|latents|n_queries|num_queries|num_slots|n_slots|num_clusters|n_clusters|"
        r"num_points|n_points|npoint|nsample|num_samples|n_samples|num_nodes|n_nodes|num_vertices|num_point|"
        r"n_agents?|num_agents?|n_mixtures?|num_mixtures|n_components?)",
        (8, 16),
    ),
    (r".*(num_kv|num_mem.*|num_groups|n_factors?)", (4,)),
    # channels of pictures
    (
        r"(n_?channels|in_?chans?|input_?nc|output_?nc|img_?channels?|image_?channels?|num_?channels|nc|"
        r"channels_?img|c_?in_img|input_channels?|in_ch(annel)?s?|color_channels)",
        (3, 1, WIDTH),
    ),
    # reinforcement learning
    (r"(n_?|num_?)?actions?(_?(dim|size|num|n|shape))?|act_?dim|n_acts?|nb_actions|ac_?dim", (4,)),
    (r"(n_?|num_?)?(states?|obs(ervations?)?)(_?(dim|size|num|n))?|s_?dim|ob_?dim", (8,)),
    # widths
    (
        r".*(d_?(k|v|q|head)|head_?(dim|size|width)|dim_?head|attn_?dim_?head|qk_?dim|d_keys|d_values|"
        r"key_size|value_size|d_h)",
        (16, 32),
    ),
    (
        r".*(d_?(ff|inner|hid|fcn|mlp)|ff(n)?_?(dim|hidden|size|inner|embed_dim)|dim_?feed_?forward|"
        r"mlp_?(dim|size|hidden)|inner_?(dim|size)|intermediate_?(dim|size)|hidden_?features|ff_dim)",
        (2 * WIDTH,),
    ),
    (r".*(d_state|state_dim|state_size|d_conv|dt_rank|order|rank|lora_rank|r|low_rank)", (8, 4)),
    (r".*(latent|z)_?(dim|size|channels|code)?s?|nz|noise_?dim|code_?dim", (16,)),
    (
        r".*(width|dim|dims|size|sizes|features?|feats?|channels?|planes?|units|hidden|hiddens|neurons|"
        r"filters?|maps|embed|emb|embedding|embd|embeddings|d_model|n_embd|ninp|nhid|emsize|chans?|nf|ngf|"
        r"ndf|ch|nfeat|n_feat|n_filters|inplanes|inp|oup|cin|cout|c_in|c_out|in_c|out_c|c1|c2|c|d|n|m|f|"
        r"input_ch|output_ch|input|output|proj|in_?dims?|out_?dims?|nin|nout|n_in|n_out|n_hidden|d_in|d_out|"
        r"dim_in|dim_out|inchannel|outchannel|in_?put_size|nclass|ninput|noutput|hidden_.*|embed_.*|n_.*|"
        r"num_.*|d_.*|dim_.*|base_.*|.*_dim\d*|.*_size|.*_channels?)",
        (WIDTH, 32, 128),
    ),
)
_BOOL = re.compile(
    r"(use|is|has|with|do|enable|no|add|apply|return|output|learn(ed|able)?|share|tie|freeze|pretrained|normali[sz]e|"
    r"causal|masked|bidirectional|residual|bias|affine|batch_norm|bn|verbose|cuda|training|flash|deep|inplace|"
    r"concat|pre_?norm|post_?norm|skip|track|downsample|upsample|bilinear|last|first)(_.*)?|.*_(flag|only|bias|"
    r"first|last|weights_sharing|sharing|enabled|norm)|if_.*|qkv_bias|concat"
)
_SIZE = re.compile(r"(size|dims?|channels?|features|len(gth)?|num|ch|nc|layers|width|planes|units|classes|rate|prob)$")
_TRUE = re.compile(r"(.*_)?(bias|affine|bilinear|batch_first)")
_TEXTS: Sequence[tuple[str, tuple[str, ...]]] = (
    (r".*rnn.*|.*cell.*|model_?type|.*mode(_type)?", ("LSTM", "GRU", "lstm", "gru")),
    (r".*act(ivation)?(_?(fn|func|function|name|type|layer))?.*|.*nonlin.*|hidden_act", ("relu", "gelu", "ReLU")),
    (r".*norm(ali[sz]ation)?(_?(type|name|layer))?", ("layer", "batch", "LayerNorm", "bn", "BatchNorm", "instance")),
    (r".*pool(ing)?.*", ("mean", "avg", "cls", "max")),
    (r".*pad(ding)?(_?(mode|type))?", ("zeros", "same", "valid", "zero", "reflect")),
    (r".*init.*", ("normal", "xavier", "kaiming", "uniform")),
    (r".*loss.*|.*objective.*", ("mse", "l2", "l1")),
    (r".*(freq)", ("h", "t")),
    (r".*(embed|emb).*", ("timeF", "fixed", "learned")),
    (r".*task.*|.*task_name", ("long_term_forecast", "classification")),
    (r".*features", ("M", "S")),
)


def is_text(uses: Sequence[Use]) -> bool:
    """Whether a parameter is compared with texts or names something."""
    return any(isinstance(use.detail, str) for use in uses if use.kind == "compared") or any(
        use.kind == "looked up" for use in uses
    )


def texts(name: str, uses: Sequence[Use]) -> list[str]:
    """Texts for a parameter: those that it is compared with, and usual ones."""
    compared = [use.detail for use in uses if use.kind == "compared" and isinstance(use.detail, str)]
    usual = [text for pattern, several in _TEXTS if re.fullmatch(pattern, name.lower()) for text in several]
    if any(use.kind == "looked up" for use in uses):
        usual = [each for each in usual if each[:1].isupper()] or usual
    return list(dict.fromkeys([*(each for each in compared if each), *usual]))


def numbers(name: str) -> tuple[Any, ...]:
    """Usual numbers for a name; empty when no pattern knows it."""
    return next((values for pattern, values in _TABLE if re.fullmatch(pattern, name.lower())), ())


def is_switch(name: str) -> bool:
    """Whether a name sounds like a switch; what ends like a size is none, whatever it begins with."""
    if _SIZE.search(name.lower()):
        return False
    return _BOOL.fullmatch(name.lower()) is not None and numbers(name)[:1] != (0.1,)


def switch(name: str) -> bool:
    """The usual position of a switch."""
    return _TRUE.fullmatch(name.lower()) is not None


def stages(name: str, count: int) -> list[Any]:
    """A list of ``count`` values for a name in the plural: growing widths, equal depths."""
    first = (numbers(name) or (WIDTH,))[0]
    lower = name.lower()
    wide = re.fullmatch(r".*(width|dim|channel|plane|feature|filter|hidden|unit|size|embed|out|in).*s?", lower)
    if re.search(r"mult", lower):
        return [1, 2, 4, 8][:count] or [1]
    if wide and not re.search(r"kernel|stride|patch|window", lower):
        return [int(WIDTH * 2 ** min(index, 2)) // 4 for index in range(count)]
    if re.search(r"cut(off|s)?|splits?", lower):
        return [20, 40, 80][:count]
    if re.search(r"stride", lower):
        return [1, 2, 2, 2, 2, 2][:count]
    if re.search(r"shape|resolution", lower):
        return [IMAGE] * count
    return [first] * count
