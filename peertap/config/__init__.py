"""The configuration file: its schema, its reader and the difference between two of them."""
