from .op import embedding
from .reference import embedding_ref

__all__ = ["embedding", "embedding_ref"]
