"""The network that an edge grants by name: a proxy outside the sandbox, at which shell commands name a host."""
