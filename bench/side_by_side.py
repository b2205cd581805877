"""rate of N connections placing pre-made batches / draining; args: repo-sql-dirs..."""
import sys, threading, time, json, os, tempfile
from pathlib import Path
from contextlib import ExitStack
from bench.placing import erased, fresh
from bench.ablate import sql_of
from bench.orders import Orders
from workers import migrate
from workers.embedded import Servers
from workers.database import connect
def work(url, batches):
    with connect(url) as db:
        for b in batches: db.execute("SELECT api.place_orders(%s)", [b]).fetchall()
def drains(url, n):
    def one():
        with connect(url) as db:
            floor=0
            while c := db.execute("SELECT * FROM api.claim_orders(1, 100, 60, %s)", [floor]).fetchone():
                floor=c[3]
                while True:
                    try: db.execute("SELECT api.place_claim(%s)", [c[0]]).fetchall(); break
                    except Exception as e: print(type(e), str(e)[:80])
    ts=[threading.Thread(target=one) for _ in range(n)]
    t=time.monotonic(); [x.start() for x in ts]; [x.join() for x in ts]
    return time.monotonic()-t
with ExitStack() as st:
    home=Path(st.enter_context(tempfile.TemporaryDirectory())); st.enter_context(erased(home/"s"))
    srv=st.enter_context(Servers(home/"s", database_url=None, redis_url="redis://unused"))
    sides=[]
    for i,rev in enumerate(sys.argv[1:]):
        migrate.SQL=sql_of(rev, home/f"sql{i}")
        b=st.enter_context(fresh(srv.database_url, f"x{i}"))
        sides.append((rev,b))
    def url(b): 
        return srv.database_url.rsplit('/',1)[0]+'/'+b.db.info.dbname+('?'+srv.database_url.split('?',1)[1] if '?' in srv.database_url else '')
    for rnd in range(3):
        for rev,b in sides:
            out=[]
            for n in (1,2,3):
                N=6000
                bs=[json.dumps([b.orders.typed() for _ in range(100)]) for _ in range(N//100)]
                ts=[threading.Thread(target=work,args=(url(b),bs[i::n])) for i in range(n)]
                b.db.execute("CHECKPOINT")
                t=time.monotonic(); [x.start() for x in ts]; [x.join() for x in ts]
                out.append(f"place x{n}: {N/(time.monotonic()-t):6.0f}/s")
            for n in (1,2,3):
                b.submit(6000,100); b.db.execute("CHECKPOINT")
                out.append(f"drain x{n}: {6000/drains(url(b),n):6.0f}/s")
            print(rev, *out, flush=True)
