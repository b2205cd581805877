CREATE OR REPLACE TRIGGER orders_record_first_step AFTER INSERT ON shop.orders
REFERENCING NEW TABLE AS new_orders FOR EACH STATEMENT EXECUTE FUNCTION shop.record_order_steps();

CREATE OR REPLACE TRIGGER orders_record_next_step AFTER UPDATE ON shop.orders
REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders
FOR EACH STATEMENT EXECUTE FUNCTION shop.record_order_steps();
