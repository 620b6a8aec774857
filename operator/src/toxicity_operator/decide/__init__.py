"""Derives the plan and the status from the spec and the observed state. Pure: no I/O."""
