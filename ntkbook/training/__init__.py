"""What a constant kernel learns: training in closed form, by an ODE, and for real.

In: a kernel matrix or a finite network, targets, a loss.  Out: predictions at any time, ensembles,
regression, and recorded runs.
"""
