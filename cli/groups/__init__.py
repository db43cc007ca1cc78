"""Commands that have a word in common, a file for each word."""
