CREATE OR REPLACE FUNCTION shop.check_catalog(
    p_heads shop.order_head[], p_demand shop.order_demand[]
) RETURNS shop.order_head[]
LANGUAGE plpgsql STABLE
SET search_path = shop, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_bad record;
    v_heads order_head[] := p_heads;
BEGIN
    FOR v_bad IN
        SELECT DISTINCT ON (d.ord) h.i, p.*
        FROM unnest(p_demand) AS d
        JOIN (SELECT ord, currency, row_number() OVER () AS i FROM unnest(p_heads)) AS h ON h.ord = d.ord
        LEFT JOIN product_variants AS v ON v.id = d.variant_id
        CROSS JOIN LATERAL (VALUES (
            CASE WHEN v.id IS NULL THEN 'OM002' WHEN NOT v.active THEN 'OM014'
                WHEN v.currency <> h.currency THEN 'OM006' WHEN d.quantity > 1000000 THEN 'OM007' END,
            CASE WHEN v.id IS NULL OR NOT v.active THEN format('lines[%s].sku', d.field_no)
                WHEN v.currency <> h.currency THEN 'currency' ELSE format('lines[%s].quantity', d.field_no) END,
            CASE WHEN v.id IS NULL THEN format('There is no sku %s.', d.sku)
                WHEN NOT v.active THEN format('Sku %s is not for sale now.', d.sku)
                WHEN v.currency <> h.currency
                    THEN format('Sku %s is sold in %s, not in %s.', d.sku, v.currency, h.currency)
                ELSE format('The lines of sku %s add up to more than 1000000; split the order.', d.sku) END
        )) AS p (code, field, message)
        WHERE p.code IS NOT NULL
        ORDER BY d.ord, d.line_no
    LOOP
        v_heads[v_bad.i].code := v_bad.code;
        v_heads[v_bad.i].field := v_bad.field;
        v_heads[v_bad.i].message := v_bad.message;
    END LOOP;
    RETURN v_heads;
END
$$;

COMMENT ON FUNCTION shop.check_catalog IS 'The heads again, with the first line that the catalog cannot serve as the problem.';
