"""What people and machines see of a node: logs, status, topology."""
