"""Expressions as the field writes them.

In: an expression of sympy, the width of a page.  Out: its LaTeX, broken where the page ends.
"""
