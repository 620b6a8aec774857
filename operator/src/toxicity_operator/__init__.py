"""The operator: reconciles ToxicityModels with their children and reports the result in the status."""
