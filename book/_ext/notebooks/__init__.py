"""Notebooks as files and as programs: read, written, executed once, compared, and their claims.

In: notebooks and the table of contents.  Out: fresh outputs, problems, differences, records.
"""
