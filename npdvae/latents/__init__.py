"""Latent layers: what stands between encoder and decoder, owning sampling, penalty and the gradient that crosses."""
