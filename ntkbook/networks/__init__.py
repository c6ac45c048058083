"""Networks with three faces: `init` and `apply` of finite width, `kernel` of infinite width.

In: layers, and inputs (n, d).  Out: parameters and outputs of a finite network, or the `Kernel`
(NNGP and NTK) of the infinite one.
"""
