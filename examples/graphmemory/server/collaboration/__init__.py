"""People who work on one document."""
