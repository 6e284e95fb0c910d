-- A set-up of two-factor belongs to the session that began it: no other session of the account sees or confirms it. And a request
-- knows which of its refusals were recorded, so that nobody writes audit rows without end.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- SHA-256 of the session id that began the set-up, until the first code. Not a foreign key: an app in use must not go with a session.
alter table totp_credentials add column if not exists session_hash bytea;

-- The session that was shown the set. Null: made by the version before.
alter table backup_codes add column if not exists session_id uuid;

-- `method:reason`, as `link.refused` has them.
alter table magic_links add column if not exists refusals text[] not null default '{}';

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
