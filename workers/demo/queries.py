"""The questions that `baskets` asks of the two files, in DuckDB's SQL, in the order in which they are asked."""

STORES_BY_BASKETS = """
SELECT store_id, count(DISTINCT basket_id) FROM transactions GROUP BY store_id ORDER BY 2 DESC, 1"""

# The shelf price before any discount: the file gives discounts as positive amounts already taken off `sales_value`,
# except manufacturers' coupons, which the shop is paid back.
PRICES = """
CREATE TABLE prices AS
SELECT product_id,
       greatest(1, round(100 * median((sales_value + retail_disc + coupon_match_disc) / quantity)))::BIGINT AS cents
FROM transactions
WHERE quantity > 0 AND sales_value + retail_disc + coupon_match_disc > 0
GROUP BY product_id"""

CONSIDERED = """
CREATE TABLE considered AS
SELECT basket_id, any_value(household_id) AS household_id, any_value(store_id) AS store_id,
       min(transaction_timestamp) AS bought_at,
       CASE
           WHEN bool_or(c.department = 'FUEL' OR c.product_type LIKE 'GASOLINE%') THEN 'fuel'
           WHEN bool_or(c.product_id IS NULL) THEN 'unknown_product'
           WHEN bool_or(t.quantity <= 0) THEN 'nothing_sold'
           WHEN bool_or(p.product_id IS NULL) THEN 'no_price'
       END AS reason
FROM transactions t
LEFT JOIN catalog c USING (product_id)
LEFT JOIN prices p USING (product_id)
GROUP BY basket_id"""

TAKEN = """
CREATE TABLE taken AS
SELECT basket_id, household_id, pool, bought_at
FROM considered JOIN store_pools USING (store_id)
WHERE reason IS NULL
ORDER BY bought_at, basket_id LIMIT :orders"""

SOLD = """
CREATE TABLE sold AS
SELECT taken.*, product_id, quantity FROM transactions JOIN taken USING (basket_id)"""

# Which product is scarce is chosen by its id, so every run has the same shortages. The floor is emptied before the
# warehouse (priority), so only the warehouse has a low-stock threshold: an empty floor alone is no news.
OPENING_STOCK = """
CREATE TABLE opening_stock AS
WITH demand AS (
    SELECT product_id, pool, sum(quantity)::BIGINT AS units, (product_id * 2654435761 >> 9) % 1000 AS luck
    FROM sold GROUP BY product_id, pool
), supplied AS (
    SELECT product_id, pool, units,
           CASE
               WHEN luck < 30 AND units >= 4 THEN units * 70 // 100
               WHEN luck < 60 AND units >= 4 THEN units * 90 // 100
               WHEN luck < 200 THEN units + luck % 4
               ELSE units + greatest(12, units // 4)
           END AS supply,
           CASE WHEN luck >= 30 AND luck < 60 AND units >= 4 THEN units - units * 90 // 100 ELSE 0 END AS oversell_cap
    FROM demand
)
SELECT product_id, pool, supply * 6 // 10 AS floor, supply - supply * 6 // 10 AS warehouse,
       oversell_cap, 5 AS low_threshold
FROM supplied"""

BASKETS = """
SELECT basket_id, any_value(household_id), any_value(pool), any_value(bought_at),
       '[' || string_agg(
           '{"sku":"CJ-' || product_id || '","quantity":' || quantity || '}', ',' ORDER BY product_id
       ) || ']'
FROM sold GROUP BY basket_id ORDER BY any_value(bought_at), basket_id"""

PRODUCTS = """
SELECT product_id, c.department, c.product_category, c.product_type, c.package_size, c.brand, p.cents
FROM (SELECT DISTINCT product_id FROM sold)
JOIN catalog c USING (product_id)
JOIN prices p USING (product_id)
ORDER BY product_id"""

EXCLUDED = """
SELECT reason, count(*), min(basket_id) FROM considered
WHERE reason IS NOT NULL AND (bought_at, basket_id) < (SELECT max((bought_at, basket_id)) FROM taken)
GROUP BY reason ORDER BY count(*) DESC, reason"""
