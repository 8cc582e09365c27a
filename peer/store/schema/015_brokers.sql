-- A person may use several brokers. '' is the one that was the only one before: the next start names it.

-- Where an invitation was posted: its answer and its withdrawal go there, and come from there alone.
ALTER TABLE invitations ADD COLUMN broker TEXT NOT NULL DEFAULT '';

ALTER TABLE broker_outbox ADD COLUMN broker TEXT NOT NULL DEFAULT '';
CREATE INDEX broker_outbox_by_broker ON broker_outbox (broker, n);

-- The number of the signed peer record that `addresses` are from: an older one does not replace it, whoever brings it.
ALTER TABLE contact_devices ADD COLUMN presence_seq INTEGER NOT NULL DEFAULT 0;
