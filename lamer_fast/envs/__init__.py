"""Batched text environments: thousands of Sokoban and Minesweeper boards, stepped in C++."""
