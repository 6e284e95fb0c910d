-- Rows as the product would have written them. $1 is now, $2 how many users, unless a statement's own words say otherwise.

-- # time zone
set time zone 'UTC'

-- # memory
set work_mem = '128MB'

-- # no triggers
-- Foreign keys hold by construction, and looking would take a third of the time.
set session_replication_role = replica

-- # schema
create schema seed

-- # v7
create function seed.v7(at timestamptz) returns uuid language sql as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from at) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$

-- # hash
create function seed.hash() returns bytea language sql as $$ select sha256(uuid_send(gen_random_uuid())) $$

-- # people to draw from
create unlogged table seed.person (
    n int primary key, id uuid, created_at timestamptz, email text, name text, ip inet, user_agent text, authenticator uuid
)

-- # sign-ins to draw from
create temporary table sign_in (
    at timestamptz, n int, link uuid, session uuid, redeemed_at timestamptz, revoked_at timestamptz, known boolean, dice float8
)

-- # people
-- 1 is a probe that signs in all day long, 2 has very many devices, 3 is an administrator.
insert into seed.person
select n, seed.v7(created_at), created_at,
       case n when 1 then 'probe@monitoring.example' when 2 then 'many.devices@inbox.example' when 3 then 'ada.quillfeather@inbox.example'
              else first || case n % 3 when 0 then '.' when 1 then '_' else '' end || last || n || '@' || domain end,
       case when n % 3 = 0 then initcap(first || ' ' || last) end,
       case when n % 8 = 0 then ('2001:db8:' || to_hex(n % 65536) || '::' || to_hex(n / 65536 + 1))::inet
            else '198.18.0.0'::inet + n % 131072 end,
       (array['Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0',
              'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36',
              'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0',
              'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15',
              'Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1',
              'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36',
              'Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0'])[1 + n % 7],
       -- Drawn from a hash: names go round by n, and whoever has two-factor or is disabled must not share a name.
       case when hashint4(n) % 20 = 0 or n % 20000 = 3 then seed.v7(created_at + interval '1 day') end
from (
    select n, $1 - interval '3 years' * (1 - n / $2::float8) as created_at,
           (array['ada','amir','anna','ben','carla','chen','dana','david','elif','emma','femi','finn','grace','hana','hugo','ines',
                  'ivan','jana','jonas','kofi','lara','leon','lucia','mara','mateo','mia','milan','nadia','noah','olga','omar','paula',
                  'pedro','priya','rosa','samir','sofia','tariq','yuki','zoe'])[1 + n % 40] as first,
           (array['abe','adler','ahmed','bauer','becker','berg','costa','cruz','diaz','dubois','eriksen','fischer','garcia','gupta',
                  'haas','hoffmann','ito','jansen','jensen','kaya','keller','khan','kim','klein','kovac','lang','lee','lopez','maier',
                  'martin','meyer','moreau','mueller','nowak','okafor','olsen','park','peters','petrov','ramos','richter','rossi',
                  'santos','sato','schmidt','silva','singh','smith','suzuki','tanaka','vogel','wagner','wang','weber','wolf',
                  'yilmaz','young','zhang','ziegler','zimmer'])[1 + n::bigint * 7919 % 60] as last,
           case when n % 100 < 45 then 'inbox.example' when n % 100 < 65 then 'post.example' when n % 100 < 75 then 'letters.example.net'
                else 'firm' || n::bigint * 17 % 2000 || '.example.com' end as domain
    from generate_series(1, $2) n
) drawn

-- # users
insert into users (id, email, email_key, display_name, is_admin, created_at, last_sign_in_at, disabled_at, deletes_at)
select id, email, email, name, n % 20000 = 3, created_at,
       case when n % 10 <> 9 then $1 - least($1 - created_at, interval '400 days') * power(random(), 3) end,
       case when hashint4(-n) % 100 = 0 and n % 20000 <> 3 then $1 - least($1 - created_at, interval '300 days') * random() end,
       case when n % 300 = 11 then $1 + interval '7 days' * random() end
from seed.person where n <= $2

-- # invites
-- A third open, a third used, a third expired.
insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at, used_at)
select seed.v7(created_at), email, email, seed.hash(), 'bench', seed.hash(), created_at, created_at + interval '7 days',
       case when n % 3 = 1 then created_at + interval '1 day' end
from (
    select n, 'new.colleague' || n || '@firm' || n % 2000 || '.example.com' as email,
           case n % 3 when 0 then $1 - interval '6 days' * random() else $1 - interval '8 days' - interval '300 days' * random() end as created_at
    from generate_series(1, $2 / 20) n
) drawn

-- # authenticators
insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at, last_step, last_used_at)
select authenticator, id, 'Authenticator app', seed.hash(), 'bench', created_at, created_at + interval '1 day', 58000000,
       $1 - interval '1 day' * random()
from seed.person where authenticator is not null and n <= $2

-- # backup codes
insert into backup_codes (id, user_id, set_id, selector, hash, created_at, saved_at, used_at)
select seed.v7(created_at + interval '1 day'), id, authenticator, substring(md5(random()::text) for 4),
       '$argon2id$v=19$m=19456,t=2,p=1$' || encode(seed.hash(), 'base64'), created_at + interval '1 day',
       created_at + interval '1 day', case when code <= n / 20 % 5 then $1 - interval '30 days' * random() end
from seed.person cross join generate_series(1, 10) code where authenticator is not null and n <= $2

-- # trusted devices
insert into trusted_devices (id, user_id, token_hash, ip, user_agent, created_at, last_used_at, expires_at)
select seed.v7(at), id, seed.hash(), ip, user_agent, at, at, at + interval '30 days'
from (select *, $1 - interval '60 days' * random() as at from seed.person where authenticator is not null and n <= $2) drawn

-- # known browsers
insert into known_browsers (token_hash, user_id, created_at, last_used_at, expires_at)
select seed.hash(), id, at, at, at + interval '1 year'
from (select id, $1 - interval '1 year' * random() as at from seed.person cross join generate_series(1, 2) where n <= $2) drawn

-- # many sessions
insert into sessions (id, token_hash, audience, data, user_id, level, method, ip, user_agent, authenticated_at, created_at,
                      last_seen_at, expires_at, new_device)
select seed.v7(at), seed.hash(), 'browser', '{}', id, 'email', 'code', ip + device, user_agent, at, at,
       $1 - interval '20 hours' * random(), at + interval '30 days', true
from (
    select person.*, device, $1 - interval '1 day' - interval '28 days' * random() as at
    from seed.person cross join generate_series(1, 200) device where n = 2 and n <= $2
) drawn

-- # months
select *, extract(epoch from "to" - "from")::float8 / extract(epoch from $1 - ($1 - interval '13 months'))::float8 as share,
       greatest(extract(epoch from "to" - greatest("from", $1 - interval '90 days')), 0)::float8 / (90 * 86400) as recent
from (
    select greatest(month, $1 - interval '13 months') as "from", least(month + interval '1 month', $1) as "to"
    from generate_series(date_trunc('month', $1 - interval '13 months'), $1, interval '1 month') month
) cut

-- # partition
select auth_audit_make_partition($1)

-- # chance
-- $1 is a month: its rows are the same whoever makes them, and when.
select setseed(extract(month from $1) / 13)

-- # forget sign-ins
truncate sign_in

-- # sign-ins
-- $1 and $2 are the month, $3 how many, $4 the users there are in the end. Most people sign in rarely, the oldest often.
insert into sign_in
select at, n, seed.v7(at), seed.v7(at + interval '40 seconds'),
       case when redeemed < 0.9 then at + interval '40 seconds' end,
       case when signs_out < 0.7 then at + interval '50 seconds' + interval '10 days' * power(random(), 3) end, known < 0.8, random()
from (
    select $1 + ($2 - $1) * ((i + random()) / $3::float8) as at, random() as redeemed, random() as signs_out, random() as known,
           4 + floor((select greatest(count(*) - 4, 1) from seed.person where created_at < $1) * power(random(), 1.5))::int as n
    from generate_series(0, $3::float8::bigint - 1) i
) drawn
where n <= $4

-- # sign-ins of the probe
-- $2 and $3 are the month, $4 how many. Nothing ever goes wrong there, so that who looks for problems looks far.
insert into sign_in
select at, 1, seed.v7(at), seed.v7(at + interval '2 seconds'), at + interval '2 seconds', at + interval '9 seconds', true, 0.5
from (
    select since + ($3 - since) * ((i + random()) / $4::float8) as at
    from generate_series(0, $4::float8::bigint - 1) i, greatest($2, $1 - interval '90 days') since
) drawn

-- # magic links
-- As far back as housekeeping leaves them.
insert into magic_links (id, email, email_key, nonce, key_id, token_hash, code_hash, browser_hash, from_known_browser, ip, user_agent,
                         created_at, expires_at, used, used_at, used_by)
select link, email, email, sha256(uuid_send(link)), 'bench', sha256(uuid_send(link)), sha256(uuid_send(link)), sha256(uuid_send(id)),
       known, ip, user_agent,
       at, at + interval '10 minutes', (redeemed_at is not null)::int, redeemed_at, case when redeemed_at is not null then 'link' end
from sign_in join seed.person using (n) where at > $1 - interval '90 days' order by at

-- # sessions
-- So too: 30 days until they end, and 90 more.
insert into sessions (id, token_hash, audience, data, user_id, level, method, second_method, magic_link_id, ip, user_agent,
                      authenticated_at, created_at, last_seen_at, expires_at, revoked_at, revoke_reason, new_device)
select session, sha256(uuid_send(session)), 'browser', '{}', id, case when authenticator is null then 'email' else 'two_factor' end, 'link',
       case when authenticator is not null then 'totp' end, link, ip, user_agent, redeemed_at, redeemed_at,
       least($1, revoked_at, redeemed_at + interval '20 days' * dice), redeemed_at + interval '30 days',
       case when revoked_at < $1 then revoked_at end, case when revoked_at < $1 then 'signed_out' end, not known
from sign_in join seed.person using (n) where redeemed_at > $1 - interval '120 days' and redeemed_at < $1 order by redeemed_at

-- # events
insert into auth_audit (id, created_at, event_type, user_id, ip, user_agent, request_id, details)
select seed.v7(event.at), event.at, event_type, case when theirs then id end, case when asked then ip end,
       case when asked then user_agent end, case when asked then replace(link::text, '-', '') end, details
from sign_in s join seed.person p using (n) cross join lateral (values
    (s.at, 'link.requested', false, true, jsonb_build_object('link', link, 'known_browser', known)),
    (s.at + interval '1 second', 'mail.sent', false, false, jsonb_build_object(
        'mail', session, 'kind', 'sign_in', 'after_ms', 1000 + (7000 * dice * dice)::int)),
    (case when dice < 0.08 then s.at + interval '20 seconds' end, 'link.refused', false, true,
        jsonb_build_object('link', link, 'method', 'code', 'reason', 'wrong_code')),
    (redeemed_at, 'link.redeemed', true, true, jsonb_build_object('link', link, 'method', 'link')),
    (case when authenticator is null then redeemed_at end, 'session.created', true, true, jsonb_build_object(
        'session', session, 'level', 'email', 'method', 'link', 'second_method', null, 'new_device', not known,
        'after_ms', 12000 + (90000 * dice)::int)),
    (case when authenticator is not null then redeemed_at end, 'session.created', true, true, jsonb_build_object(
        'session', link, 'level', 'first_factor', 'method', 'link', 'second_method', null, 'new_device', not known)),
    (case when authenticator is not null and dice < 0.1 then redeemed_at + interval '8 seconds' end, 'totp.refused', true, true,
        jsonb_build_object('reason', 'wrong', 'for', 'sign_in')),
    (case when authenticator is not null then redeemed_at + interval '15 seconds' end, 'totp.accepted', true, true,
        jsonb_build_object('authenticator', authenticator, 'for', 'sign_in')),
    (case when authenticator is not null then redeemed_at + interval '15 seconds' end, 'session.revoked', true, true,
        jsonb_build_object('session', link, 'reason', 'replaced')),
    (case when authenticator is not null then redeemed_at + interval '15 seconds' end, 'session.created', true, true,
        jsonb_build_object('session', session, 'level', 'two_factor', 'method', 'link', 'second_method', 'totp', 'new_device', not known)),
    (case when dice between 0.2 and 0.22 then redeemed_at + interval '1 minute' end, 'step_up.passed', true, true,
        jsonb_build_object('session', session, 'factor', 'mail')),
    (case when dice between 0.2 and 0.21 then redeemed_at + interval '2 minutes' end, 'name.changed', true, true, '{}'),
    (case when dice between 0.3 and 0.303 then redeemed_at + interval '1 minute' end, 'step_up.refused', true, true,
        jsonb_build_object('code', session)),
    (case when redeemed_at is not null then revoked_at end, 'session.revoked', true, true,
        jsonb_build_object('session', session, 'reason', 'signed_out'))
) as event (at, event_type, theirs, asked, details)
where event.at <= $1 order by event.at

-- # forget people
drop schema seed cascade

-- # vacuum
vacuum (analyze)

-- # sizes
select c.relname::text as name, case when c.relkind = 'i' then 'index' else 'table' end as of, greatest(c.reltuples, 0)::bigint as rows,
       pg_relation_size(c.oid) / 1000000 as megabytes
from pg_class c join pg_namespace s on s.oid = c.relnamespace
where s.nspname = 'public' and c.relkind in ('r', 'i') and pg_relation_size(c.oid) > 1000000
    and (c.relname !~ '^auth_audit_20' or c.relname ~ '^auth_audit_202610')
order by 1
