create table chats (id uuid primary key default gen_random_uuid(), title text not null default 'new');
-- c
create table m (chat uuid references chats(id), n int default -1, x double precision null default 1.5e3, t timestamptz default now(), b boolean default false, j jsonb default '{}'::jsonb, s stream, f blob, d double, g bigint);