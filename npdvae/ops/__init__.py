"""NumPy reference operations: pure functions, forward beside backward; the float64 truth of every backend."""
