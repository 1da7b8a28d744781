"""Celery: the only package that imports numpy and the machine-learning libraries."""
