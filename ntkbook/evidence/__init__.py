"""The three ideas that the book rests on: derivations, checks and figures.

In: expressions, a theory beside a measurement, a drawn picture.  Out: objects that have proved,
compared or described it, and show themselves on a page.
"""
