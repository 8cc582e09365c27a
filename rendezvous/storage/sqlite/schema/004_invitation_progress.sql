-- How far an open invitation is, for its inviter: what became of its mail, and when a device of the invitee fetched it.
ALTER TABLE invitations ADD COLUMN mailed INTEGER;   -- 1: the mail server took it; 0: no mail was sent; NULL: not known
ALTER TABLE invitations ADD COLUMN fetched INTEGER;
