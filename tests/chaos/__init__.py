"""Faults under load: real processes die, freeze and lose each other while answers stream; none may be lost or altered.

`python -m tests.chaos` is the long run (`make chaos`); test_chaos.py is the cut that every `make test` has.
"""
