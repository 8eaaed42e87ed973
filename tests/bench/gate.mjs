// What the gate itself costs for one governed charge: the module that Envoy loads, in V8 as in Envoy, all callbacks of one
// charge from its headers to the deletion of its stream. Ledger and vendor answer at once, so no waiting is in the time; the
// host's part (these imports, in JavaScript) is. How much of it the module itself takes is told by V8's profiler: the share of the
// samples that lie in WebAssembly, from charges of their own.
//
//   node gate.mjs MODULE.wasm --vault-key-file FILE --answer-file FILE --seconds S
//
// prints {count, per_second, p50_us, p99_us, module_share}; the key is any that is well formed, the answer a charge as the vendor
// shows it.

import { readFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { parseArgs } from "node:util";

const OK = 0;
const NOT_FOUND = 1;
const EMPTY = 7;
const PAUSE = 1;
const ROOT = 1;
const COMMANDS = "keybrake_commands";
const VENDOR = "stripe";
// The filter's code is optimised by then.
const WARM_UP = 5000;
// Kinds of header maps and buffers.
const REQUEST_HEADERS = 0;
const CALL_HEADERS = 6;
const REQUEST_BODY = 0;
const CALL_BODY = 4;

const GRANT = {
  key_id: "vk_1",
  version: 1,
  vendor: "stripe",
  allowed_endpoints: ["POST /v1/charges", "GET /v1/charges/{id}"],
  idempotency: "required",
};
const text = new TextEncoder();
const CHARGE = text.encode("amount=299&currency=usd&customer=cus_aaa");
const NO_HEADERS = headerMap([]);
const VENDOR_HEADERS = headerMap([
  [":status", "200"],
  ["content-type", "application/json"],
  ["request-id", "req_bench"],
  ["keybrake-upstream", "1"],
]);
const LEDGER_HEADERS = headerMap([
  [":status", "200"],
  ["keybrake-ledger", "1"],
]);

/** Header pairs as the ABI lays them out: made before the time is taken. */
function headerMap(pairs) {
  const parts = pairs.flat().map((part) => Buffer.from(part));
  const encoded = Buffer.alloc(4 + 4 * parts.length + parts.reduce((sum, part) => sum + part.length + 1, 0));
  let at = encoded.writeUInt32LE(pairs.length, 0);
  for (const part of parts) at = encoded.writeUInt32LE(part.length, at);
  for (const part of parts) at += part.copy(encoded, at) + 1;
  return { count: pairs.length, encoded, values: new Map(pairs.map(([name, value]) => [name, Buffer.from(value)])) };
}

/** One worker of Envoy, as far as the filter can tell. */
class Host {
  constructor(module, vaultKey, charged) {
    this.vaultKey = vaultKey;
    this.charged = charged;
    this.calls = [];
    this.queue = [];
    this.replies = 0;
    this.current = ROOT;
    this.effective = 0;
    this.headers = NO_HEADERS;
    this.answer = { headers: NO_HEADERS, body: new Uint8Array() };
    this.plugin = text.encode(
      JSON.stringify({
        commands_cluster: COMMANDS,
        vendors: [{ pack: "stripe", cluster: VENDOR, prefix: "/stripe", hosts: ["api.stripe.com"] }],
      }),
    );
    const compiled = new WebAssembly.Module(module);
    const imports = { env: {}, wasi_snapshot_preview1: {} };
    for (const { module: space, name } of WebAssembly.Module.imports(compiled)) {
      const known = space === "env" ? this[name] : this[`wasi_${name}`];
      imports[space][name] = known
        ? known.bind(this)
        : () => {
            throw new Error(`the filter calls ${name}, which this host does not have`);
          };
    }
    this.vm = new WebAssembly.Instance(compiled, imports).exports;
    this.vm._initialize();
    this.enter(ROOT, () => this.vm.proxy_on_context_create(ROOT, 0));
    this.enter(ROOT, () => this.vm.proxy_on_vm_start(ROOT, 0));
    if (!this.enter(ROOT, () => this.vm.proxy_on_configure(ROOT, this.plugin.length))) {
      throw new Error("the filter refuses its configuration");
    }
  }

  enter(context, callback) {
    [this.current, this.effective] = [context, 0];
    return callback();
  }

  // Memory

  view() {
    if (this.seen?.buffer !== this.vm.memory.buffer) this.seen = new DataView(this.vm.memory.buffer);
    return this.seen;
  }

  bytes(at, size) {
    return new Uint8Array(this.vm.memory.buffer, at, size);
  }

  string(at, size) {
    return Buffer.from(this.vm.memory.buffer, at, size).toString("utf8");
  }

  handOut(value, data, size) {
    const at = value.length ? this.vm.proxy_on_memory_allocate(value.length) : 0;
    if (value.length) this.bytes(at, value.length).set(value);
    this.view().setUint32(data, at, true);
    this.view().setUint32(size, value.length, true);
    return OK;
  }

  // What the filter imports

  proxy_log(level, at, size) {
    if (level >= 3) throw new Error(this.string(at, size));
    return OK;
  }

  proxy_set_tick_period_milliseconds() {
    return OK;
  }

  proxy_define_metric(_kind, _name, _size, id) {
    this.view().setUint32(id, 1, true);
    return OK;
  }

  proxy_record_metric() {
    return OK;
  }

  proxy_increment_metric() {
    return OK;
  }

  proxy_set_property() {
    return OK;
  }

  proxy_get_property() {
    return NOT_FOUND;
  }

  proxy_set_effective_context(context) {
    this.effective = context;
    return OK;
  }

  proxy_get_buffer_bytes(kind, start, max, data, size) {
    const whole = kind === REQUEST_BODY ? CHARGE : kind === CALL_BODY ? this.answer.body : this.plugin;
    return this.handOut(whole.subarray(start, start + max), data, size);
  }

  proxy_set_buffer_bytes() {
    return OK;
  }

  map(kind) {
    if (kind === REQUEST_HEADERS) return this.headers;
    return kind === CALL_HEADERS ? this.answer.headers : NO_HEADERS;
  }

  proxy_get_header_map_pairs(kind, data, size) {
    return this.handOut(this.map(kind).encoded, data, size);
  }

  proxy_get_header_map_value(kind, key, keySize, data, size) {
    const found = this.map(kind).values.get(this.string(key, keySize));
    return found ? this.handOut(found, data, size) : NOT_FOUND;
  }

  proxy_set_header_map_pairs() {
    return OK;
  }

  proxy_remove_header_map_value() {
    return OK;
  }

  proxy_register_shared_queue(_name, _size, id) {
    this.view().setUint32(id, 1, true);
    return OK;
  }

  proxy_enqueue_shared_queue(_queue, at, size) {
    this.queue.push(this.bytes(at, size).slice());
    return OK;
  }

  proxy_dequeue_shared_queue(_queue, data, size) {
    const value = this.queue.shift();
    return value ? this.handOut(value, data, size) : EMPTY;
  }

  proxy_http_call(cluster, clusterSize, _headers, _headersSize, body, size, _trailers, _trailersSize, _timeout, token) {
    const made = { token: ++this.made, cluster: this.string(cluster, clusterSize), body: this.bytes(body, size).slice() };
    this.calls.push(made);
    this.view().setUint32(token, made.token, true);
    return OK;
  }

  made = 0;

  proxy_send_local_response(status, _details, _detailsSize, body, size) {
    if (status !== 200) throw new Error(`the charge got ${status}: ${this.string(body, size)}`);
    this.replies += 1;
    return OK;
  }

  proxy_done() {
    return OK;
  }

  wasi_clock_time_get(_clock, _precision, at) {
    this.view().setBigUint64(at, process.hrtime.bigint(), true);
    return OK;
  }

  wasi_random_get(at, size) {
    crypto.getRandomValues(this.bytes(at, size));
    return OK;
  }

  wasi_environ_sizes_get(count, size) {
    this.view().setUint32(count, 0, true);
    this.view().setUint32(size, 0, true);
    return OK;
  }

  wasi_environ_get() {
    return OK;
  }

  // The world around it

  /** What the ledger says to a batch. */
  ledger(body) {
    const results = JSON.parse(Buffer.from(body)).commands.map(usual);
    return { headers: LEDGER_HEADERS, body: text.encode(JSON.stringify({ results })) };
  }

  /** Milliseconds spent in the filter for what `callback` does. */
  timed(context, callback) {
    const began = performance.now();
    this.enter(context, callback);
    return performance.now() - began;
  }

  /** The callbacks of one charge. Milliseconds. */
  charge(stream) {
    const { vm } = this;
    this.headers = headerMap([
      [":method", "POST"],
      [":path", "/stripe/v1/charges"],
      [":authority", "localhost"],
      [":scheme", "http"],
      ["x-request-id", `req-${stream}`],
      ["authorization", `Bearer ${this.vaultKey}`],
      ["content-type", "application/x-www-form-urlencoded"],
      ["idempotency-key", `k-${stream}`],
    ]);
    const before = this.replies;
    let spent = this.timed(stream, () => {
      vm.proxy_on_context_create(stream, ROOT);
      const headers = vm.proxy_on_request_headers(stream, this.headers.count, 0);
      const body = vm.proxy_on_request_body(stream, CHARGE.length, 1);
      if (headers !== PAUSE || body !== PAUSE) throw new Error("a charge went on by itself");
    });
    spent += this.wake();
    for (let call = this.calls.shift(); call; call = this.calls.shift()) {
      const ofLedger = call.cluster === COMMANDS;
      this.answer = ofLedger ? this.ledger(call.body) : { headers: VENDOR_HEADERS, body: this.charged };
      const { headers, body } = this.answer;
      spent += this.timed(ROOT, () => vm.proxy_on_http_call_response(ROOT, call.token, headers.count, body.length, 0));
      spent += this.wake();
    }
    if (this.replies !== before + 1) throw new Error("the charge was not answered");
    spent += this.timed(stream, () => {
      vm.proxy_on_response_headers(stream, 1, 0);
      vm.proxy_on_response_body(stream, 1, 1);
      vm.proxy_on_done(stream);
      vm.proxy_on_log(stream);
      vm.proxy_on_delete(stream);
    });
    return spent + this.wake();
  }

  wake() {
    let spent = 0;
    while (this.queue.length) spent += this.timed(ROOT, () => this.vm.proxy_on_queue_ready(ROOT, 1));
    return spent;
  }
}

/** What a ledger says to `{kind: command}` when nothing is the matter. */
function usual(command) {
  const [[kind, { id, grant_version }]] = Object.entries(command);
  if (kind === "release") return { id, result: "released" };
  if (kind !== "reserve") return { id, result: "recorded" };
  if (grant_version !== GRANT.version) return { id, result: { grant: GRANT } };
  return { id, result: { admitted: { hold: id, attempt: 1, forward_within_ms: 5000 } } };
}

/** The part of the time in `timed` that is spent in WebAssembly, 0 to 1, over so many seconds of charges. */
async function moduleShare(charge, seconds) {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: 100 });
  await session.post("Profiler.start");
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) charge();
  const { nodes, samples, timeDeltas } = (await session.post("Profiler.stop")).profile;
  session.disconnect();
  const byId = new Map(nodes.map((node) => [node.id, node]));
  // From the outermost call in, so that each knows whether it is below `timed`.
  const walk = (node, timed) => {
    node.timed = timed || node.callFrame.functionName === "timed";
    for (const child of node.children ?? []) walk(byId.get(child), node.timed);
  };
  walk(nodes[0], false);
  const spent = { all: 0, module: 0 };
  samples.forEach((id, position) => {
    const { timed, callFrame } = byId.get(id);
    if (!timed) return;
    spent.all += timeDeltas[position];
    if (callFrame.url.startsWith("wasm://")) spent.module += timeDeltas[position];
  });
  return spent.module / spent.all;
}

function middle(times) {
  times.sort((one, other) => one - other);
  return times[Math.floor(times.length / 2)];
}

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: "string" },
    "vault-key-file": { type: "string" },
    "answer-file": { type: "string" },
  },
  allowPositionals: true,
});
const vaultKey = readFileSync(values["vault-key-file"], "utf8").trim();
const seconds = Number(values.seconds);
const host = new Host(readFileSync(positionals[0]), vaultKey, readFileSync(values["answer-file"]));
let stream = ROOT;
for (let number = 0; number < WARM_UP; number += 1) host.charge((stream += 1));
const times = [];
const end = performance.now() + seconds * 1000;
while (performance.now() < end) times.push(host.charge((stream += 1)));
const sum = times.reduce((all, time) => all + time, 0);
const p50 = middle(times) * 1000;
const share = await moduleShare(() => host.charge((stream += 1)), seconds);
console.log(
  JSON.stringify({
    count: times.length,
    per_second: (times.length * 1000) / sum,
    p50_us: p50,
    p99_us: times[Math.floor(times.length * 0.99)] * 1000,
    module_share: share,
  }),
);
