"""What accepts connections: an event loop in each API process, before granian.

It answers the two requests of a small job by itself (small_jobs.py), without handing them from thread to thread.
All else is granian's: a connection on which something else comes is one to granian from then on (tunnel.py).
docs/decisions/0048-front.md says why.
"""
