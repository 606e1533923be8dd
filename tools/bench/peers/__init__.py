"""The tunnels that are compared: each module knows how one is found, configured and started."""
