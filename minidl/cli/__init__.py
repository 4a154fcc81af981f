"""What the commands share: the parser, the output, and stopping on signals."""
