"""The wire format between devices: strict CBOR, COSE signatures, statement types, frames. Pure: no I/O, no clock."""
