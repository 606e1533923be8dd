"""All input and output: sockets, files, clocks, randomness."""
