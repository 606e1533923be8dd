"""PeerTap beside other tunnels: the same links, the same tools, one run."""
