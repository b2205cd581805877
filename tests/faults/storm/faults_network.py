"""Fault 20, and the proxies that others want too: between workers and load on one side and servers on the other."""

from random import Random

from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.proxy import Proxy
from tests.faults.storm.rig import Rig


def proxies(rig: Rig) -> None:
    """A piece: a proxy before PostgreSQL, and one before Valkey."""
    for name, url in (("database", rig.database_url), ("redis", rig.redis_url)):
        rig.parts[name] = proxy = Proxy(url, seed=1).start()
        rig.stack.callback(proxy.stop)
    rig.seen_database_url, rig.seen_redis_url = rig.parts["database"].url, rig.parts["redis"].url


@fault(
    20,
    "network cut 60 s, 200 ms delay with resets",
    resends=False,
    seconds=90,
    short=12,
    least_load=0.03,
    pieces=(proxies,),
)
def cut_and_slow(rig: Rig, chance: Random, stop: Stop) -> int:
    """Cut for two thirds of the time; then slow, and each second some connections are reset.

    When the network is whole again, half of the old connections go on where they were, and half are forgotten.
    """
    between: list[Proxy] = [rig.parts["database"], rig.parts["redis"]]
    for proxy in between:
        proxy.cut()
    stop.wait(stop.left * 2 / 3)
    for proxy in between:
        proxy.reset(0.5)
        proxy.heal()
        proxy.delay = 0.2
    count = 1
    while not stop.wait(1.0):
        count += sum(proxy.reset(0.1) for proxy in between)
    for proxy in between:
        proxy.delay = 0.0
    return count
