create type mood as enum ('sad', 'it''s ok');
create table t (best integer options (merge 'max') not null check (best > 0) unique, bytes bytea default '\x00ff',
  feeling mood default 'it''s ok'::mood, hits counter, likes counter default 3, moods mood[], owner uuid references u on delete set null,
  tags text[] options (merge 'set') not null default '{"a b",c}', u uuid references u on delete cascade,
  constraint few check (cardinality(tags) < 5), unique (feeling, best), primary key (id));
create index by_best on t (best desc, id) where feeling = 'sad' and best in (1, 2);
create table u ();
