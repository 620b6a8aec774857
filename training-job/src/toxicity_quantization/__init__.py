"""The quantization stage: the merged model in; its 4-bit checkpoint and the loss of quality out."""
