"""`dispatch demo`: two people on this machine, everything real but the model's words."""
