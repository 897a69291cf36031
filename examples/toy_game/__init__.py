"""A GAN small enough to be solved by hand, played by the real objectives and training loop."""
