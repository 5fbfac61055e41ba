"""`lamer-fast doctor`: proves on this machine, in about a minute, that the pieces agree."""
