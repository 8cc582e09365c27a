"""A running node: the services behind the API, delivery between store and mesh, notifications, and the wiring."""
