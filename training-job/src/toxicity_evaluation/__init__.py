"""The evaluation stage: measures the weights in the serving engine before they are served."""
