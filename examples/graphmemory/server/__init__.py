"""The server of a small graph memory, as raceproof's example."""
