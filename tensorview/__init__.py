"""See inside a neural network while it trains."""
