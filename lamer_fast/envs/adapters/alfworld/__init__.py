"""ALFWorld, household tasks in text: its games, made or downloaded, and boards that play them.

`alfred.pddl` (the rules) and `alfred.twl2` (the words) are those of alfworld 0.4.2, unchanged, under the
licence in `LICENSE.alfworld` (MIT, Mohit Shridhar and others). All else here is this project's own.
"""
