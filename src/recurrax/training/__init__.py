"""Training: losses, metrics, optimizers, data, callbacks, and `fit` over all of them."""
