"""Several machines on one: the service on hosts that share only a Redis with replicas and an S3-compatible store.

`python -m tests.hosts` runs it. docs/several-machines.md says how such a service is set up, docs/reliability.md what is
done to this one.
"""
