"""The demo: real baskets become orders of a shop of five pools, go in through both doors and are checked at the end.

Each module is one step: `baskets` reads, `load` fills the shop, `submit` sends and waits, `display` and `summary` show,
`run` joins them.
"""
