"""The contract between the parts: spec, status, stage configuration, results. Imports pydantic only."""
