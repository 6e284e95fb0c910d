-- Which mail goes out first: what somebody waits for whom an account knows, then notices, then what strangers can ask for, network by
-- network in turn.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

alter table mail_outbox
    -- 0: asked for by a known browser or by somebody signed in. 1: a notice. 2: what strangers can ask for, and what is not urgent. The
    -- version before fills in none of the three, and its mails are the first of the last class.
    add column if not exists class smallint not null default 2,
    -- How many mails of the same network and class waited when this one was queued.
    add column if not exists turn integer not null default 0,
    -- A keyed hash of that network, while the mail waits.
    add column if not exists network bytea;

-- "What waits, in its order", of which a claim takes a handful. Both indexes hold what waits alone. To build one takes a look at 14 days of
-- mails: 30 ms for 10^5.
create index if not exists mail_outbox_next on mail_outbox (class, turn, created_at desc) where state = 'queued';
-- "How many of this network wait?"
create index if not exists mail_outbox_network on mail_outbox (network, class) where state = 'queued';

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
