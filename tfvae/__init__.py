"""What does the training objective, GAN or VAE, do to a generator's variety when all else is the same?"""

import os

# TensorFlow prints a page about devices and rounding at every start. What matters comes as a Python exception.
if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TFVAE_SET_LOG_LEVEL"] = "1"  # in the environment, so that processes that a command starts know it too
