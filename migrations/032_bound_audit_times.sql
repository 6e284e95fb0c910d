-- A time that nobody's clock shows, in a row or a batch of the audit, would end whoever reads it: the seal, the verification, an export.
-- What adds one is no server, but somebody with the application's role (docs/audit.md).
set lock_timeout = '1s';
set statement_timeout = '5s';
set client_min_messages = warning;

-- Not validated, which would read the whole log under the lock. For new rows they hold from here on; a month made later takes its
-- table's over. The version before writes the time of its clock.
do $$
begin
    if not exists (select 1 from pg_constraint where conname = 'auth_audit_time_check' and conrelid = 'auth_audit'::regclass) then
        alter table auth_audit add constraint auth_audit_time_check
            check (created_at >= '2020-01-01Z' and created_at < '2200-01-01Z') not valid;
    end if;
    if not exists (select 1 from pg_constraint where conname = 'auth_audit_seals_time_check' and conrelid = 'auth_audit_seals'::regclass) then
        alter table auth_audit_seals add constraint auth_audit_seals_time_check check (
            month >= '2020-01-01' and month < '2200-01-01'
            and sealed_at >= '2020-01-01Z' and sealed_at < '2200-01-01Z'
            and (to_at is null or to_at >= '2020-01-01Z' and to_at < '2200-01-01Z')
            and (first_at is null or first_at >= '2020-01-01Z' and first_at < '2200-01-01Z')
            and (last_at is null or last_at >= '2020-01-01Z' and last_at < '2200-01-01Z')
        ) not valid;
    end if;
    if not exists (select 1 from pg_constraint where conname = 'audit_verification_time_check' and conrelid = 'audit_verification'::regclass) then
        alter table audit_verification add constraint audit_verification_time_check
            check (at >= '2020-01-01Z' and at < '2200-01-01Z') not valid;
    end if;
end
$$;

-- As in 016, but for months that those checks admit. Another year can have a month's name: 15 March 2027 BC that of March 2027, whose
-- rows then were never dropped by their time.
create or replace function auth_audit_make_partition(at timestamptz) returns void
    language plpgsql
    security definer
    set search_path = public, pg_temp
    as $$
declare
    first timestamptz := date_trunc('month', at, 'UTC');
    past  timestamptz := date_trunc('month', at, 'UTC') + interval '1 month';
    name  text := 'auth_audit_' || to_char(first at time zone 'UTC', 'YYYYMM');
begin
    if at is null or at < '2020-01-01Z' or at >= '2200-01-01Z' then
        raise exception 'auth_audit has no month for %', at using errcode = 'invalid_parameter_value';
    end if;
    if to_regclass(name) is null
        and not exists (select 1 from auth_audit_default where created_at >= first and created_at < past)
    then
        execute format('create table if not exists %I partition of auth_audit for values from (%L) to (%L)', name, first, past);
    end if;
end
$$;

reset lock_timeout;
reset statement_timeout;
reset client_min_messages;
