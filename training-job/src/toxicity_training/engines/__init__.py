"""The two training engines, the Hugging Face Trainer and a plain PyTorch loop, and what both share."""
