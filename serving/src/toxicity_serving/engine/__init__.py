"""The inference engine: its protocol, and vLLM as the implementation with the weights and compiled code it loads."""
