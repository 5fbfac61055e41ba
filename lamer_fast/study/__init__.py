"""Studies: grids of arms, parts and seeds, run cell by cell, and what they show."""
