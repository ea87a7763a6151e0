"""What an inner step is made of: adapted tensors, calls of the loss, and the compiled loop."""
