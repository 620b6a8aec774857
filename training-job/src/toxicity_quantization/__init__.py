"""Quantization stage: the merged model in, its 4-bit checkpoint and what that cost in quality out."""
