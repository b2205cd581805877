CREATE OR REPLACE FUNCTION shop.line_problem(
    p_variant shop.product_variants, p_sku text, p_quantity numeric, p_field_no bigint, p_currency text
) RETURNS shop.problem
LANGUAGE sql STABLE
AS $$
    -- Inlined, so it has no pinned search_path; every name in it is of pg_catalog.
    SELECT CASE
        WHEN p_variant.id IS NULL
            THEN ROW('OM002', format('lines[%s].sku', p_field_no), format('There is no sku %s.', p_sku))::shop.problem
        WHEN NOT p_variant.active
            THEN ROW('OM014', format('lines[%s].sku', p_field_no),
                format('Sku %s is not for sale now.', p_sku))::shop.problem
        WHEN p_variant.currency <> p_currency
            THEN ROW('OM006', 'currency',
                format('Sku %s is sold in %s, not in %s.', p_sku, p_variant.currency, p_currency))::shop.problem
        WHEN p_quantity > 1000000
            THEN ROW('OM007', 'lines',
                'The lines of one sku add up to more than 1000000; split the order.')::shop.problem
    END
$$;

COMMENT ON FUNCTION shop.line_problem(shop.product_variants, text, numeric, bigint, text) IS 'The first thing that the catalog has against a line; NULL when it can be sold.';
