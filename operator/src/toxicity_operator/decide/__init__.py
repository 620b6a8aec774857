"""What is to be done and what the status says, from the spec and the observed state. Pure."""
