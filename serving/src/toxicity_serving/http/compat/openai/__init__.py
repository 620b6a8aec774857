"""OpenAI's moderation API: POST /v1/moderations."""
