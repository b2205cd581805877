"""Reads through the cache, and its upkeep."""

from typing import Any

from pydantic import ValidationError

from tasks.payloads import AvailabilityRequest, CategoriesRequest, ProductsRequest, refusal
from workers.app import app
from workers.base_task import JobTask, ReadTask, payload_of
from workers.database import call
from workers.jobs import run_job

BEST_SELLERS, LATELY = 500, "7 days"


@app.task(name="catalog.product", base=ReadTask)
def product(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Reads products: takes a ProductsRequest, gives them in the order asked, null for each that there is not."""
    try:
        asked = ProductsRequest.model_validate(payload_of(args, kwargs))
    except ValidationError as error:
        return refused(error)
    return read("product", asked.codes)


@app.task(name="catalog.availability", base=ReadTask)
def availability(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Reads what can be ordered: takes an AvailabilityRequest, gives it by sku, null for each that there is not."""
    try:
        asked = AvailabilityRequest.model_validate(payload_of(args, kwargs))
    except ValidationError as error:
        return refused(error)
    result = read("availability", asked.skus)
    if asked.pool is not None:
        result["items"] = [
            item and item | {"pools": [pool for pool in item["pools"] if pool["pool"] == asked.pool]}
            for item in result["items"]
        ]
    return result


@app.task(name="catalog.category", base=ReadTask)
def category(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Reads categories: takes a CategoriesRequest, gives them in the order asked, null for each that there is not."""
    try:
        asked = CategoriesRequest.model_validate(payload_of(args, kwargs))
    except ValidationError as error:
        return refused(error)
    return read("category", asked.codes)


@app.task(name="cache.warm", base=JobTask)
def warm(cadence: float | None = None) -> dict[str, Any]:
    """Loads the best sellers of the last days, with their products and categories, as far as they are not there."""
    from workers.cache import cache  # noqa: PLC0415  # not in the memory of a worker of orders

    def work(session: Any) -> dict[str, Any]:
        best = call("api.best_sellers", LATELY, BEST_SELLERS, on=session)
        names = {
            "availability": [row["sku"] for row in best],
            "product": [row["product"] for row in best],
            "category": [row["category"] for row in best],
        }
        return {"best_sellers": len(best), "loaded": cache().warm(names)}

    return run_job("cache.warm", cadence, lease=120, work=work)


def read(kind: str, names: list[str]) -> dict[str, Any]:
    """The result of a read."""
    from workers.cache import cache  # noqa: PLC0415  # not in the memory of a worker of orders

    items = cache().read(kind, names).values
    cache().tell()  # this process may read nothing more for long
    return {"status": "read", "items": items}


def refused(error: ValidationError) -> dict[str, Any]:
    """The result of a read whose payload does not have its form."""
    no = refusal("", error)
    return {"status": "rejected", **{name: no[name] for name in ("code", "field", "message")}}
