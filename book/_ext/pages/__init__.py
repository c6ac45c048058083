"""What Sphinx needs beyond Jupyter Book: directives, and fixes of the pages.

In: notebooks, records and data files.  Out: parts of pages that ask no other server for anything.
"""
