"""From an ALFWorld game file to the tables that the C++ stepper plays: see `compile_game`."""
