"""Many processes as one: gradients, kernels, precision, checkpoints of parts."""
