"""The serving process: FastAPI with vLLM's engine, which scores the toxicity of texts."""
