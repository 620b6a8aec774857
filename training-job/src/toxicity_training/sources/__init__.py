"""Where data sets and base models come from: the Hugging Face hub, Kaggle, and files on a volume."""
