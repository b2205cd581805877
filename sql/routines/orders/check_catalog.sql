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
        SELECT DISTINCT ON (d.ord) h.i, (line_problem(v, d.sku, d.quantity, d.field_no, h.currency)).*
        FROM unnest(p_demand) AS d
        JOIN (SELECT ord, currency, row_number() OVER () AS i FROM unnest(p_heads)) AS h ON h.ord = d.ord
        LEFT JOIN product_variants AS v ON v.id = d.variant_id
        WHERE d.unit_amount IS NULL
        ORDER BY d.ord, d.line_no
    LOOP
        v_heads[v_bad.i].code := v_bad.code;
        v_heads[v_bad.i].field := v_bad.field;
        v_heads[v_bad.i].message := v_bad.message;
    END LOOP;
    RETURN v_heads;
END
$$;

COMMENT ON FUNCTION shop.check_catalog(shop.order_head[], shop.order_demand[]) IS 'The heads again, with the first line that the catalog cannot serve as the problem.';
