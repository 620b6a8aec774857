"""Raw objects become frozen state: Jobs, the Deployment, pods, autoscalers, and their drift. Pure."""
