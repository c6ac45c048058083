"""Checks of arguments and exact products of matrices, which every folder uses.

In: what a user passes.  Out: checked arrays and numbers, or an error that names the argument.
"""
