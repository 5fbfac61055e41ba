"""This package inside other trainers: a file each, imported by that trainer or by its user, never by us.

What each one replaces, and the versions it was run with: the table in ``kernels/README.md``.
"""
