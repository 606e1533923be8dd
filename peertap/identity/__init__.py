"""Who a node is and which VLANs it may enter: identities and secrets, as values and as text."""
