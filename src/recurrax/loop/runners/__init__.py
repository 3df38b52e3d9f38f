"""One module a runner, each with a `run` that keeps the contract of `recurrax.loop.body.Run`."""
