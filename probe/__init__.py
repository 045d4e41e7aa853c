"""Extract image embeddings once, then fit, compare and fine-tune in seconds."""

__version__ = "0.1.0"
