"""What `ntkbook.diagnose` measures of a network and makes of it, without its kernel as a matrix.

In: f(params, x), parameters, inputs, targets, a step.  Out: the largest step, the predicted path of
training with its errors, how far the network leaves it, and these as a page and a picture.
"""
