"""Flask: the only package that knows HTTP."""
