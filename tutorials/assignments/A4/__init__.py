"""A4: convolution and pooling."""
