"""`python -m deploy doctor`: looks at all that a service works with, and says of each part what to do."""
