"""Four models to try the service with; `demo.py` lists them."""
