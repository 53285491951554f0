"""What tensorview costs and how fast it shows, as ratios of two things measured in turn.

`python -m benchmarks.speed` measures all, each theme in a process of its own.
"""
