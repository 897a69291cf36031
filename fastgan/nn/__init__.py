"""Modules built on `fastgan.ops`: convolutions, norm + activation, residual blocks.

All of them take and return [B, C, D, H, W] and keep the channels_last_3d layout of their input.
Nothing here couples the samples of a batch (no batch statistics, no minibatch features): a
gradient penalty needs the slope of each sample by itself.
"""

from fastgan.nn.chain import ConvChain, run_chain
from fastgan.nn.conv import Conv3d, ConvTranspose3d
from fastgan.nn.conv_norm_act import ConvNormAct3d
from fastgan.nn.initialise import he_normal_
from fastgan.nn.labels import check_labels
from fastgan.nn.layout import channels_last, weights_channels_last
from fastgan.nn.linear import Linear
from fastgan.nn.norm_act import NORMS, NormAct3d
from fastgan.nn.recompute import notes_of, recomputed, restore_notes
from fastgan.nn.resample import Smooth3d, average_pool, upsample
from fastgan.nn.residual import ResidualDown3d, ResidualUp3d

__all__ = [
    "NORMS",
    "Conv3d",
    "ConvChain",
    "ConvNormAct3d",
    "ConvTranspose3d",
    "Linear",
    "NormAct3d",
    "ResidualDown3d",
    "ResidualUp3d",
    "Smooth3d",
    "average_pool",
    "channels_last",
    "check_labels",
    "he_normal_",
    "notes_of",
    "recomputed",
    "restore_notes",
    "run_chain",
    "upsample",
    "weights_channels_last",
]
