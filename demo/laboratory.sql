-- What the laboratory found, in Firebird. Invented, like everything here.
create database '/srv/lab/results.fdb' default character set utf8;
create table test (id int not null primary key, name varchar(60) not null);
create table finding (id int not null primary key, test int not null references test, amount int not null, found date not null);
set term ^;
execute block as declare n int = 0; begin
  while (n < 20) do begin
    n = n + 1;
    insert into test values (:n, 'Test ' || :n);
  end
  n = 0;
  while (n < 3000) do begin
    n = n + 1;
    insert into finding values (:n, mod(:n, 20) + 1, mod(:n * 7, 900), current_date - mod(:n, 700) - 1);
  end
end^
set term ;^
commit;
