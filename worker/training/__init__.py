"""How a challenger is trained, compared with the champion and judged: pure functions of rows, seeds and estimators."""
