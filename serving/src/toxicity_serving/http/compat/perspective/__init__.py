"""The Perspective API: POST /v1alpha1/comments:analyze."""
