-- What can be read of the catalog changes by the owner's own SQL; whoever keeps copies of it is told, once a statement.
CREATE OR REPLACE TRIGGER products_tell_inserts AFTER INSERT ON shop.products
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_products_changed();
CREATE OR REPLACE TRIGGER products_tell_updates AFTER UPDATE ON shop.products
REFERENCING OLD TABLE AS before NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_products_changed();
CREATE OR REPLACE TRIGGER products_tell_deletes AFTER DELETE ON shop.products
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_products_changed();

CREATE OR REPLACE TRIGGER variants_tell_inserts AFTER INSERT ON shop.product_variants
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_variants_changed();
CREATE OR REPLACE TRIGGER variants_tell_updates AFTER UPDATE ON shop.product_variants
REFERENCING OLD TABLE AS before NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_variants_changed();
CREATE OR REPLACE TRIGGER variants_tell_deletes AFTER DELETE ON shop.product_variants
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_variants_changed();

CREATE OR REPLACE TRIGGER categories_tell_inserts AFTER INSERT ON shop.categories
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_categories_changed();
CREATE OR REPLACE TRIGGER categories_tell_updates AFTER UPDATE ON shop.categories
REFERENCING OLD TABLE AS before NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_categories_changed();
CREATE OR REPLACE TRIGGER categories_tell_deletes AFTER DELETE ON shop.categories
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_categories_changed();

-- With a list of columns a trigger costs the movements of stock nothing, but sees no rows: so everything.
CREATE OR REPLACE TRIGGER levels_tell_caps AFTER UPDATE OF oversell_cap, low_stock_threshold ON shop.stock_levels
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_everything_changed();
CREATE OR REPLACE TRIGGER levels_tell_inserts AFTER INSERT ON shop.stock_levels
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_levels_changed();
CREATE OR REPLACE TRIGGER levels_tell_deletes AFTER DELETE ON shop.stock_levels
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_levels_changed();
CREATE OR REPLACE TRIGGER locations_tell_updates AFTER UPDATE OF pool_id ON shop.locations
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_everything_changed();
CREATE OR REPLACE TRIGGER pools_tell_updates AFTER UPDATE OF code ON shop.pools
FOR EACH STATEMENT EXECUTE FUNCTION shop.tell_everything_changed();
