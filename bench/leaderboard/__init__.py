"""python -m bench.leaderboard: every estimator and latent, trained on the same tasks (docs/leaderboard.md)."""
