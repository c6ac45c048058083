"""What a computer-algebra system decides, and what it is held against.

In: expressions, the law of their variables, what is assumed.  Out: whether two are equal, where one
is defined, what a line rests on, and a second witness by numbers for every rule.
"""
