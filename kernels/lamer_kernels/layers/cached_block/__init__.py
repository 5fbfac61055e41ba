from .op import BlockWeights, block_weights, cached_blocks

__all__ = ["BlockWeights", "block_weights", "cached_blocks"]
