"""ASGI middleware, one concern per module. `http.app` sets the order."""
