-- Another application signs people in through the API, in its own pages.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

alter table magic_links
    -- The API key of the application that asked, and the application's name; null where a browser asked. Link and code then work for
    -- that key alone. No foreign key: keys are revoked, never deleted.
    add column if not exists api_key_id uuid,
    add column if not exists application text,
    -- Where the mail's link leads, one of REDIRECT_URLS. Null for an application: its mail has a code and no link.
    add column if not exists redirect_url text,
    -- `ip` and `user_agent` are the person's. An application that names no client leaves its own there.
    add column if not exists client_named boolean not null default true;

alter table sessions
    -- Of an application's session: the key that made it, and the application's name. Every key of that name sees the session, so
    -- that a key can be replaced without signing everybody out.
    add column if not exists api_key_id uuid,
    add column if not exists application text;

-- A request for a link that carried an Idempotency-Key: asked again within a day, it gets its first answer. The answer itself stands
-- nowhere; it is derived from the link's row.
create table if not exists idempotent_requests (
    -- SHA-256 of API key id and Idempotency-Key.
    key_hash      bytea primary key check (octet_length(key_hash) = 32),
    -- SHA-256 of what was asked.
    body_hash     bytea not null check (octet_length(body_hash) = 32),
    -- No foreign key: these rows go after a day, links after ninety.
    magic_link_id uuid not null,
    created_at    timestamptz not null
);
create index if not exists idempotent_requests_created on idempotent_requests (created_at);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
