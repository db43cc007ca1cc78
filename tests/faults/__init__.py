"""A lane that dies anywhere: its heirs end where nothing had happened."""
