"""Pure builders of the children, one module per kind and purpose; plain data in, plain data out."""
