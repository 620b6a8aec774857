"""The training stage: labelled comments in; a fine-tuned, merged model and its metrics out."""
