"""How good the models are, on real events and known truths, beside what others make of the same."""
