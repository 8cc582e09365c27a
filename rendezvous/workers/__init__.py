"""Several processes that are one broker on one machine: they accept at the same sockets, and tell each other what
changed by way of the process that started them and starts each again that ends."""
