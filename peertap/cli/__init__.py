"""The `peertap` command: data on stdout, the rest on stderr; exit 0 ok, 1 failed, 2 usage or configuration."""
