"""What the training, quantization and evaluation stages share: entry point, artifacts, errors and process ranks."""
