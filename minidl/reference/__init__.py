"""The paper's algorithms line by line: slow, obvious, and the oracle for every fast layer.

Read it with the paper (Mode Normalization, ICLR 2019) beside it. Each backward stands directly below its forward,
takes the same arguments after dy, and returns a dictionary of gradients. Nothing here keeps state, and nothing but
NumPy is used. Every function computes in float64, or in the wider or complex dtype of its arguments.
"""

from minidl.reference.batch import (
    batch_norm,
    batch_norm_backward,
    batch_norm_eval,
    batch_norm_eval_backward,
    batch_norm_running,
    batch_norm_running_moments,
)
from minidl.reference.conv import conv2d, conv2d_backward
from minidl.reference.gating import channel_gates, channel_gates_backward, gates, gates_backward
from minidl.reference.group import group_norm, group_norm_backward
from minidl.reference.instance import instance_norm, instance_norm_backward
from minidl.reference.layer import layer_norm, layer_norm_backward
from minidl.reference.linear import linear, linear_backward
from minidl.reference.loss import softmax_cross_entropy, softmax_cross_entropy_backward
from minidl.reference.mode import mode_norm, mode_norm_backward
from minidl.reference.mode_group import mode_group_norm, mode_group_norm_backward
from minidl.reference.mode_inference import mode_norm_eval, mode_norm_eval_backward, mode_norm_running
from minidl.reference.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_running",
    "batch_norm_running_moments",
    "channel_gates",
    "channel_gates_backward",
    "conv2d",
    "conv2d_backward",
    "gates",
    "gates_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mode_group_norm",
    "mode_group_norm_backward",
    "mode_norm",
    "mode_norm_backward",
    "mode_norm_eval",
    "mode_norm_eval_backward",
    "mode_norm_running",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]
