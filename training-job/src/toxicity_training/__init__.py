"""Training stage: labelled comments in, a merged fine-tuned model and its figures out."""
