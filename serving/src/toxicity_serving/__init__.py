"""The HTTP service: one FastAPI process with vLLM's engine in it, which turns texts into toxic scores."""
