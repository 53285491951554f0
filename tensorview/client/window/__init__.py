"""The window of ``tensorview view``: what runs inside ParaView, with or without its own GUI."""
