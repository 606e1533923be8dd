"""The joint of the pure parts: events in, actions out, no I/O (DESIGN 2)."""
