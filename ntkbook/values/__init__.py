"""Where an expression is defined, and what it is worth there.

In: expressions and what is assumed of their symbols.  Out: what may be zero, jump or bend, and
values at admissible points, to thirty digits.
"""
