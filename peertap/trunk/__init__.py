"""The trunk's handshake, keys and records (SPEC 4). Pure: bytes and keys in, bytes and keys out."""
