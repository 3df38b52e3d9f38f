"""The compiler of CPU kernels: from a jaxpr of one step to machine code for the whole loop."""
