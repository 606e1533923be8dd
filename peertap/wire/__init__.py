"""Messages and packets as bytes. Pure: bytes in, values out, one error (DecodeError)."""
