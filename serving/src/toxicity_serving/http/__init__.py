"""The HTTP interface: the application, its routes, the error answers, the middleware and the server."""
