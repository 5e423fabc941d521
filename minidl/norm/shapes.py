"""Names for the shapes of arrays in the signatures of the norms; to a type checker each is an `Array`."""

from minidl.backend import Array

Images = Array  # (N, C, H, W), (N, C, L) or (N, C): the input or the output of a layer
PerChannel = Array  # (N, C): one value for each channel of each sample
PerGate = Array  # (N, K): one value for each mode of each sample
PerMode = Array  # (K, C): one value for each channel of each mode
PerModeOrShared = Array  # (K, C), or (1, C) where the modes share a parameter
OfChannels = Array  # (C,): one value for each channel, such as a weight
