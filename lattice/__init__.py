"""A 3-D lattice simulator of cytokines and cells in bone."""
