"""BigGAN and BigGAN-deep: `Generator` (also the VAE's decoder) and `Discriminator` (also its encoder)."""
