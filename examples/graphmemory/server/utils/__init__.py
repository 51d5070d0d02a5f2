"""Parts that all packages use."""
