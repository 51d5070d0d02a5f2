"""Events on their way in and out."""
