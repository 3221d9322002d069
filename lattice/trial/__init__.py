"""In-silico trials: arms and replicates with common random numbers, and what they show."""
