"""Routes in the request and response formats of other moderation APIs."""
