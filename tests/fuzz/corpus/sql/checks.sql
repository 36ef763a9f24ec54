create table t (a integer check (a between 1 and 9 or a is null), b text check (b like 'x%' and length(b) < 9),
  c text[] check ('a' = any(c)), d double precision check (-d * 2.5 < 1e3 + a % 4), e timestamptz check (e < '2030-01-01T00:00:00Z'),
  f boolean check (f is not true), g uuid check (g <> '01890000-0000-7000-8000-000000000000'),
  h jsonb check (h = '{"a": 1}'), check (case when a > 1 then b else lower(b) || 'x' end = 'y'), check (coalesce(a, 0) >= 0));
