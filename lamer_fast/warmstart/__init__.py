"""Warm start: supervised training of a small model on expert trials, so that it can play, badly."""
