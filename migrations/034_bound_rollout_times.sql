-- A time that no clock shows, in a rollout, in what its checks said or in a period of the overview, would end whoever reads it: the guard
-- of the rollout and the pages about it. A server writes the time of its clock; somebody with the application's role could add any other.
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Not validated, which would read the whole table under the lock. They hold for new rows; the version before writes the time of its clock.
do $$
begin
    if not exists (select 1 from pg_constraint where conname = 'rollouts_time_check' and conrelid = 'rollouts'::regclass) then
        alter table rollouts add constraint rollouts_time_check check (
            step_since >= '2020-01-01Z' and step_since < '2200-01-01Z'
            and started_at >= '2020-01-01Z' and started_at < '2200-01-01Z'
            and (stopped_since is null or stopped_since >= '2020-01-01Z' and stopped_since < '2200-01-01Z')
            and (clear_since is null or clear_since >= '2020-01-01Z' and clear_since < '2200-01-01Z')
            and (ended_at is null or ended_at >= '2020-01-01Z' and ended_at < '2200-01-01Z')
        ) not valid;
    end if;
    if not exists (select 1 from pg_constraint where conname = 'rollout_checks_time_check' and conrelid = 'rollout_checks'::regclass) then
        alter table rollout_checks add constraint rollout_checks_time_check check (
            checked_at >= '2020-01-01Z' and checked_at < '2200-01-01Z'
            and (over_since is null or over_since >= '2020-01-01Z' and over_since < '2200-01-01Z')
        ) not valid;
    end if;
    if not exists (select 1 from pg_constraint where conname = 'period_counts_time_check' and conrelid = 'period_counts'::regclass) then
        alter table period_counts add constraint period_counts_time_check check (
            begins_at >= '2020-01-01Z' and begins_at < '2200-01-01Z'
        ) not valid;
    end if;
end
$$;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
