"""What the kernel decides before any training.

In: kernels, as matrices or as functions of an angle.  Out: eigenvalues, effective dimensions,
rates of decay.
"""
