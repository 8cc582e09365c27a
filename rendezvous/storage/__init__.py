"""What the broker keeps: one interface, the values it takes and returns, its errors, and one folder a database."""
