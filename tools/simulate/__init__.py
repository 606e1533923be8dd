"""The mesh on a simulated network and clock: the real routes, trees and roles of thousands of nodes in one process."""
