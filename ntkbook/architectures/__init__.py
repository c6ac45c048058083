"""Layers of architectures beyond the dense one, with the three faces of `networks`.

In: layers, and the signal of an infinite network.  Out: the layers `LayerNorm` and others, to be
put into `Serial` and `Residual`.
"""
