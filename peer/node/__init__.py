"""A running node: the services that the API calls, delivery between store and mesh, and the wiring of them all."""
