"""`make backup` and `make restore`: both databases and the artifacts of the containers, as one folder.

All but `schemas` and `settle`, which run inside the containers, need nothing but Python: a host of containers has no
more.
"""
