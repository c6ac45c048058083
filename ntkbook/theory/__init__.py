"""What the kernel decides before any training.

In: kernels, as matrices or as functions of an angle.  Out: eigenvalues, effective dimensions,
rates of decay; of signals in deep networks fixed points, phases and limits; of regression learning
curves, from the spectrum or from the training set.
"""
