"""What runs in a worker process: views, sinks, and the loop between them."""
