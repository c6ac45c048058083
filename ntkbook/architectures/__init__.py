"""Layers of architectures beyond the dense one, with the three faces of `networks`.

In: layers, and the signal of an infinite network.  Out: the layers `Conv`, `LayerNorm`,
`Recurrent`, `Aggregate`, `Attention` and others, to be put into `Serial` and `Residual`; kernels
of whole graphs.
"""
