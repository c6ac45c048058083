"""A run of the book on a machine with a card: what it is, how fast, and whether it agrees.

In: the repository and a Python with JAX.  Out: small JSON records, one for each stage.
"""
