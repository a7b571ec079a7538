"""Scoring without end: a folder of tables, answered in parts by a pool of workers of Ray.

`engine` is the door. A plan splits the tables into parts once; each part is read, answered and written by one worker,
whole or not at all, under a name that the plan gave it. So a part that is there is done, whoever wrote it.
"""
