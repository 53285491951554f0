"""Numbers computed from weights and activations; no state, no VTK."""
