-- Addresses of contacts' devices that this person typed: they stay, whatever the device announces.

CREATE TABLE typed_addresses (
    device  TEXT NOT NULL REFERENCES contact_devices (device) ON DELETE CASCADE,
    address TEXT NOT NULL,                    -- multiaddr without its /p2p/ part
    added   INTEGER NOT NULL,
    PRIMARY KEY (device, address)
) STRICT, WITHOUT ROWID;
