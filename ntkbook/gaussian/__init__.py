"""What a nonlinearity does to a pair of Gaussian variables.

In: variances and covariance of (u, v), a function φ.  Out: E[φ(u) φ(v)] and its slope in the
covariance, E[φ'(u) φ'(v)].
"""
