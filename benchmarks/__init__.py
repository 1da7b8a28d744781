"""Measurements of the running service, one module per question; run them from the top of the checkout."""
