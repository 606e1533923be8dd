"""Checks between two machines on one Ethernet. They know nothing of PeerTap: each works over a plain veth pair as well.

Each takes two `Side`s, raises ScenarioFailed where something does not hold, and returns its figures.
"""
