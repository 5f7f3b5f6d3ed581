-- A refund finds the entry that burned by its id, and the refunds of it that there were. The other kinds are not in the
-- first index, and only refunds are in the second.
CREATE INDEX entries_burned ON entries (account, id) WHERE kind IN ('CONSUME', 'COMMIT');
CREATE INDEX entries_reverses ON entries (account, reverses) WHERE reverses <> '';
