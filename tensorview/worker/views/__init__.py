"""How to draw a snapshot: one module a view, all pure."""
