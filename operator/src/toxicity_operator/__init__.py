"""The operator: looks at a ToxicityModel and its children, applies what is missing, reports in status."""
