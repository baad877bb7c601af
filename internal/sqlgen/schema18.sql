-- What servers have from 18 on.
ALTER TABLE made ADD low_k text GENERATED ALWAYS AS (lower(k)) VIRTUAL, ADD low_label text GENERATED ALWAYS AS (lower(label)) VIRTUAL;
CREATE TABLE stays (id int4range, during daterange, room text, guest text, PRIMARY KEY (id, during WITHOUT OVERLAPS));
