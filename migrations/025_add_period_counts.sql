-- The administrators' overview: the counts by the minute, added up as coarsely as each of its spans shows them.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- A day, a week and a month each read a few thousand rows. From hours alone a month would read a hundred thousand, and from minutes a
-- million. Of what is not over yet, what was counted so far. All of it can be counted anew from the audit but how many accounts there
-- were.
create table if not exists period_counts (
    -- How long the period is.
    hours     smallint not null check (hours in (1, 6, 24)),
    -- When it begins: at midnight by UTC, or a multiple of its length later.
    begins_at timestamptz not null,
    name      text not null,
    -- Of what took time, how long, rounded up to two digits: a row each. 0 of what took none.
    seconds   integer not null default 0,
    value     bigint not null,
    primary key (hours, name, begins_at, seconds)
);

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
