// Makes calls with Stripe's own Node SDK, unmodified. Reads one JSON line per call from standard input and answers each
// with one JSON line: {"ok": …} or {"error": …}.
//
//   {"call": "charges.create", "arguments": [{"amount": 299, …}, {"idempotencyKey": "k"}]}
//   {"call": "POST /v1/charges", "arguments": [{"amount": 299, …}, {"additionalHeaders": {…}}]}
import readline from "node:readline";

import Stripe from "stripe";

const { KEYBRAKE_VAULT_KEY, KEYBRAKE_HOST, KEYBRAKE_PORT, SDK_OPTIONS } = process.env;
const stripe = new Stripe(KEYBRAKE_VAULT_KEY, {
  host: KEYBRAKE_HOST,
  port: Number(KEYBRAKE_PORT),
  protocol: "http",
  ...JSON.parse(SDK_OPTIONS ?? "{}"),
});

function classOf(error) {
  const found = Object.entries(Stripe.errors).find(([, type]) => error.constructor === type);
  return found ? found[0] : error.constructor.name;
}

function begin(call, given) {
  const [verb, path] = call.split(" ");
  if (path !== undefined) return stripe.rawRequest(verb, path, ...given);
  const [resource, method] = call.split(".");
  return stripe[resource][method](...given);
}

async function make({ call, arguments: given }) {
  try {
    return { ok: await begin(call, given) };
  } catch (error) {
    return {
      error: {
        class: classOf(error),
        isStripeError: error instanceof Stripe.errors.StripeError,
        code: error.code ?? null,
        status: error.statusCode ?? null,
        message: error.message,
        shown: String(error),
        raw: error.raw ?? null,
        headers: error.headers ?? null,
      },
    };
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await make(JSON.parse(line)))}\n`);
}
// Answers that the SDK retried after were never read to their end, and their connections would keep Node running.
process.exit(0);
