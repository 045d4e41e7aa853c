"""Pixels in, tensors out: decode, resize, batch."""
