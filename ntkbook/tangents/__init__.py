"""Finite networks to first order (and second) in their parameters.

In: any function f(params, x), parameters, inputs.  Out: its Jacobian, its empirical tangent kernel,
its Taylor models, and averages of kernels over random networks.
"""
