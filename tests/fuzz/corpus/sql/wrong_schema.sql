create type mood as enum ('a', 'a'); create table t (a mood[] options (merge 'set', merge 'max'), b counter[] );
create index on t (a nulls first); create unique index if not exists i on t (lower(a));
