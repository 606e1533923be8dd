"""Programs for those who work on PeerTap; nothing that a node needs."""
