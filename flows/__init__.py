"""The flows, one a file: which task comes after which."""
