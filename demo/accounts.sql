-- What the practice is paid, in MariaDB. Invented, like everything here.
create or replace database accounts character set utf8mb4;
use accounts;
create table payer (id int primary key, name varchar(100) not null);
create table payment (id int primary key, payer int not null, cents int not null, paid date not null,
                      foreign key (payer) references payer (id));
insert into payer select seq, concat('Fund ', seq) from seq_1_to_20;
insert into payment select seq, 1 + seq % 20, 2000 + seq * 7 % 9000, current_date - interval (1 + seq % 700) day from seq_1_to_5000;
