"""The explorer: a trained model as one HTML page that answers to the hand, python -m npdvae.explore RUN."""
