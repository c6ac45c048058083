"""Expressions as the field writes them, and pictures in words.

In: an expression of sympy and the width of a page; a panel of a figure.  Out: LaTeX, broken where
the page ends; a description and a digest.
"""
