-- Administrators see who is limited and what mail is up to; who asks for too many mails is noticed.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Whom a row counts, as administrators see it. The key stays a keyed hash.
alter table rate_limits
    -- Masked: m•••••@example.org.
    add column if not exists address text,
    add column if not exists network text,
    -- No foreign key: a row means nothing once its time is over.
    add column if not exists user_id uuid;

-- How many sign-in mails each network asks for, refused requests included, by the minute. A network is an IPv4 address or an IPv6 /64.
create table if not exists network_requests (
    minute   timestamptz not null,
    network  text not null,
    requests bigint not null,
    primary key (minute, network)
);

-- The newest request is of the most use, so after an outage it goes first: "waiting, newest first", of which a claim takes a handful.
-- squawk-ignore require-concurrent-index-creation
create index if not exists mail_outbox_waiting on mail_outbox (created_at desc) where state = 'queued';
-- It was asked "waiting, longest due first", which nothing asks any more.
-- squawk-ignore require-concurrent-index-deletion
drop index if exists mail_outbox_queued;
-- The administrators' list, and the same of what was given up, which is rare among what was sent.
-- squawk-ignore require-concurrent-index-creation
create index if not exists mail_outbox_created on mail_outbox (created_at desc, id desc);
-- squawk-ignore require-concurrent-index-creation
create index if not exists mail_outbox_given_up on mail_outbox (created_at desc, id desc) where state in ('failed', 'expired');

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
