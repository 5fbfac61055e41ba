"""Worlds of other packages: one file or folder each, which imports its package in the workers alone."""
