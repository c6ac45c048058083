"""What travels through the layers of an infinitely wide network, and where it may end.

In: inputs, or pixels, and rules that move a pair of kernels.  Out: the `Signal` of all pairs, tile
by tile, the `Kernel` that it stands for, and the layer in which it left the range of its dtype.
"""
