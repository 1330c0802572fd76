-- Tables beside those of the demo's shop, made on every shard.
CREATE TABLE typed (
    id bigint PRIMARY KEY, tiny tinyint, small smallint, medium mediumint, normal int, big bigint unsigned,
    single float, twice double, exact decimal(20,6), bits bit(8), flag boolean,
    padded char(10), words varchar(200), pages text, letters longtext,
    fixed binary(4), raw varbinary(50), bytes longblob,
    day date, clock time(3), moment datetime(6), stamp timestamp(6) NULL, vintage year,
    choice enum('a', 'b', 'c'), several set('x', 'y', 'z'), doc json, tag uuid
);
CREATE TABLE writers (id bigint PRIMARY KEY, name varchar(100) NOT NULL, born date);
CREATE TABLE books (
    writer_id bigint NOT NULL, id bigint NOT NULL, title varchar(200) NOT NULL, price decimal(8,2) NOT NULL DEFAULT 0,
    PRIMARY KEY (writer_id, id), FOREIGN KEY (writer_id) REFERENCES writers (id)
);
-- Whole on the first shard; the others have it empty.
CREATE TABLE notes (id int AUTO_INCREMENT PRIMARY KEY, body varchar(200) NOT NULL, UNIQUE KEY (body));
