"""From played trials to what an update sees: credit and packing."""
