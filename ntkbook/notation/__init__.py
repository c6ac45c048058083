"""Expressions as the field writes them, and pictures in words.

In: an expression of sympy, an author's LaTeX for it, the width of a page; a panel of a figure.
Out: LaTeX, broken where the page ends; what an author's LaTeX says; a description and a digest.
"""
