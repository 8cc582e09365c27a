"""Everything the broker keeps, and all of its SQL. Functions of one transaction each; no HTTP, no clock, no keys."""
