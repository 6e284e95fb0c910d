-- What an account knows of a browser that has signed it in: where that was last, so that a cookie that turns up elsewhere on another
-- device counts for nothing, and so that its owner can tell one from another. And wrong codes by mail are counted until a link is used.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Null: signed in last by the version before. It goes on being known until its account's next sign-in there.
alter table known_browsers
    add column if not exists ip inet,
    add column if not exists device text,
    -- Wrong codes by mail from this browser since its account last used a link there.
    add column if not exists wrong_codes integer not null default 0;

-- The mail has no code: none was taken when it was asked for.
alter table magic_links add column if not exists codes_off boolean not null default false;

-- Wrong codes by mail for an address, in browsers that its account doesn't know, since a link mailed to it was last used. There is a row
-- for an address without an account too, until some time after the last of them.
create table if not exists wrong_codes (
    email_key text primary key,
    failures  integer not null,
    last_at   timestamptz not null
);
create index if not exists wrong_codes_last on wrong_codes (last_at);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
