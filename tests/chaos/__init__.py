"""The chaos suite: the whole service under load while everything is killed, frozen, cut off, filled up and restarted.

`python -m tests.chaos` runs it. docs/reliability.md says what is injected and what is compared at the end.
"""
