"""What the API and the workers must agree on: settings, errors, jobs, the job store, queues, storage, registry."""

__version__ = "0.1.0"
