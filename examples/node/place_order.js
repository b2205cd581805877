// Enqueues an order from Node with celery-node and waits for its outcome. The order is for the sample shop of `make up`.
const { randomUUID } = require("crypto");
const celery = require("celery-node");

const order = {
  version: 1,
  key: `node-${randomUUID()}`, // keep it with the cart: after a timeout, send the same order again under it
  customer: "C-1",
  pool: "SAMPLE",
  lines: [{ sku: "TEA-100", quantity: 2 }],
};

for (const name of ["CELERY_BROKER_URL", "REDIS_URL"]) {
  if (process.env[name]) continue;
  console.error(`set ${name} to what make up prints`); // celery-node would look for RabbitMQ on this machine
  process.exit(1);
}

async function main() {
  const shop = celery.createClient(process.env.CELERY_BROKER_URL, process.env.REDIS_URL, "orders");
  try {
    // The {} must be there: celery-node sends null for keyword arguments that are left out, which Celery refuses.
    const outcome = await shop.sendTask("orders.place", [order], {}).get(30000);
    console.log(JSON.stringify(outcome, null, 2)); // "status": "placed" with its order_id, or "rejected" with a code
  } finally {
    await shop.disconnect();
  }
}

main().catch((error) => {
  console.error(`no outcome yet; send it again under ${order.key}: ${error.message}`);
  process.exitCode = 1;
});
