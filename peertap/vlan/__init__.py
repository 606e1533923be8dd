"""VLANs: names, keys, and how members get to know each other (SPEC 3, 5). Pure."""
