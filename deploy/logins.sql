-- What the PostgreSQL image runs once, over a new database: a login for each kind of process, none of which can write a
-- table. `ordermill migrate` gives the roles their rights.
\set worker_password `cat /run/secrets/worker_password`
\set web_password `cat /run/secrets/web_password`

CREATE ROLE ordermill_worker NOLOGIN;
CREATE ROLE ordermill_app NOLOGIN;
CREATE ROLE shop_worker LOGIN PASSWORD :'worker_password' IN ROLE ordermill_worker;
CREATE ROLE shop_web LOGIN PASSWORD :'web_password' IN ROLE ordermill_app;
-- A shop that stalls inside a transaction with a hold in it would keep that stock locked.
ALTER ROLE shop_web SET idle_in_transaction_session_timeout = '30s';
-- Where the application's own tables are, beside the shop's.
CREATE SCHEMA AUTHORIZATION shop_web;
