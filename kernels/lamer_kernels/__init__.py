"""RL kernels: credit assignment and the packed log-prob policy loss."""
