"""The load test: sends scheduled requests to the served model and writes the figures to its status."""
