"""The contract between the parts: spec, status, stage configuration and results. It depends on pydantic only."""
