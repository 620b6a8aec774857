"""The load test: offers paced requests to the served model, bucket by bucket, and reports into its status."""
