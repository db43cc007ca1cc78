"""What is learned: River estimators, their labels and their metrics."""
