"""How good the models are, against known truths and other libraries."""
