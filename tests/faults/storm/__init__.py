"""Faults against real processes under a seeded load, and an oracle outside the system: `make faults`.

`load` sends orders and notes what it was told, `rig` is what is broken, `fault` how it is broken, `oracle` compares the
notes with the database, `run` puts them together, `report` writes docs/reliability.md.
"""
