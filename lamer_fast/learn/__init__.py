"""From a TrialBatch to updated weights: credit, packing, policy, update, optimizer, checkpoint."""
